"""What libsndfile does not handle: recordings joined in one file, and headers that state no length.

Recorders that write to a pipe cannot go back to fill in the length; they leave 0 or the largest number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

_BEGINS = 0x02  # flag of the first page of an Ogg stream
_PAGE_HEADER = 27  # bytes, before the table of segments
_UNKNOWN_32 = 0xFFFFFFFF  # libsndfile reads to the end of the file


def split_joined(file: BinaryIO) -> list[bytes]:
    """Return the recordings that were joined by writing one after the other; an empty list where there is only one."""
    start = file.tell()
    head = file.read(4)
    file.seek(start)
    if head[:4] == b"RIFF":
        starts = _wav_starts(file, start)
    elif head[:4] in (b"OggS", b"fLaC") or head[:3] == b"ID3" or head[:1] == b"\xff":
        find = {b"OggS": _ogg_starts, b"fLaC": _flac_starts}.get(head, _mp3_starts)
        starts = find(file.read())
    else:
        return []
    if len(starts) < 2:
        return []
    file.seek(start)
    data = file.read()
    return [data[begin:end] for begin, end in zip(starts, [*starts, len(data)][1:], strict=True)]


def _ogg_starts(data: bytes) -> list[int]:
    """Return where the chained streams of an Ogg file begin.

    Source: RFC 3533, sections 4 and 6. Streams that are multiplexed begin together and stay in one part.
    """
    starts, at, in_head = [0], 0, True
    while (at := data.find(b"OggS", at)) >= 0 and at + _PAGE_HEADER <= len(data):
        begins = bool(data[at + 5] & _BEGINS)
        if begins and not in_head:
            starts.append(at)
        in_head = begins
        segments = data[at + _PAGE_HEADER : at + _PAGE_HEADER + data[at + 26]]
        end = at + _PAGE_HEADER + len(segments) + sum(segments)
        # A recorder that was killed leaves its last page incomplete: the next stream may begin inside it.
        at = end if end == len(data) or data[end : end + 4] == b"OggS" else at + 4
    return starts


def _find_all(data: bytes, word: bytes) -> Iterator[int]:
    at = data.find(word)  # a regular expression takes a tenth of the time of decoding
    while at >= 0:
        yield at
        at = data.find(word, at + 1)


def _flac_starts(data: bytes) -> list[int]:
    """Return where FLAC streams begin: with the name and a STREAMINFO of 34 bytes."""
    return [at for at in _find_all(data, b"fLaC") if data[at + 4 : at + 8] in (b"\0\0\0\x22", b"\x80\0\0\x22")]


def _mp3_starts(data: bytes) -> list[int]:
    """Return where MP3 streams begin: an encoder's first frame states a length, at which libsndfile stops."""
    tag = 0
    if data[:3] == b"ID3" and len(data) > 10:
        tag = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    starts = [0]
    for word in sorted([*_find_all(data, b"Xing"), *_find_all(data, b"Info")]):
        # After 4 bytes of frame header and 9, 17 or 32 of side information, depending on MPEG version and channels.
        frames = [word - place for place in (13, 21, 36)]
        starts += [at for at in frames if at > tag and data[at] == 0xFF and data[at + 1] >= 0xE0][:1]
    return starts


def _wav_starts(file: BinaryIO, start: int) -> list[int]:
    starts, at = [0], start
    while True:
        file.seek(at)
        head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return starts
        starts += [at - start] if at > start else []
        size = struct.unpack("<I", head[4:8])[0]
        at += 8 + size + size % 2


def with_length(file: BinaryIO) -> bytes | None:
    """Return a file's content with a header that lets libsndfile read to the end; None where it already does."""
    start = file.tell()
    head = file.read(12)
    find = {b"RIFF": _riff_size, b"RF64": _riff_size, b".snd": _au_size, b"caff": _caf_size}.get(head[:4])
    if find is None:
        return None
    place = find(file, start)
    if place is None:
        return None
    at, size = place
    file.seek(start)
    content = bytearray(file.read())
    if head[:4] == b"RF64":
        content[:8] = b"RIFF" + struct.pack("<I", _UNKNOWN_32)  # the length of RF64 stands elsewhere, in ds64
    content[at - start : at - start + len(size)] = size
    return bytes(content)


def _riff_size(file: BinaryIO, start: int) -> tuple[int, bytes] | None:
    """Return the position of WAV's data size and its right value, if the size is 0 and data follow."""
    at, long_size = start + 12, None
    while True:
        file.seek(at)
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        size = struct.unpack("<I", chunk[4:])[0]
        if chunk[:4] == b"ds64":
            long_size = struct.unpack("<Q", file.read(16)[8:].ljust(8, b"\0"))[0]
        if chunk[:4] == b"data":
            unknown = size == 0 or (size == _UNKNOWN_32 and long_size in (0, (1 << 64) - 1))
            return (at + 4, struct.pack("<I", _UNKNOWN_32)) if unknown and _samples_follow(file, at + 8) else None
        if not _is_name(chunk[:4]):
            return None
        at += 8 + size + size % 2


def _samples_follow(file: BinaryIO, at: int) -> bool:
    """Return whether samples follow, and not the next chunk (such as comments) of a file without samples."""
    end = file.seek(0, 2)
    file.seek(at)
    chunk = file.read(8)
    is_chunk = len(chunk) == 8 and _is_name(chunk[:4]) and at + 8 + struct.unpack("<I", chunk[4:])[0] <= end
    return bool(chunk) and not is_chunk


def _is_name(chunk: bytes) -> bool:
    return all(32 <= letter < 127 for letter in chunk)


def _au_size(file: BinaryIO, start: int) -> tuple[int, bytes] | None:
    file.seek(start + 4)
    offset, size = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
    file.seek(start + offset)
    return (start + 8, struct.pack(">I", _UNKNOWN_32)) if size == 0 and file.read(1) else None


def _caf_size(file: BinaryIO, start: int) -> tuple[int, bytes] | None:
    """Return the position of CAF's data size and its right value; libsndfile refuses -1, the rest of the file."""
    at = start + 8
    while True:
        file.seek(at)
        chunk = file.read(12)
        if len(chunk) < 12:
            return None
        size = struct.unpack(">q", chunk[4:])[0]
        if chunk[:4] == b"data":
            end = file.seek(0, 2)
            return (at + 4, struct.pack(">q", end - at - 12)) if size in (0, -1) and end > at + 16 else None
        if size < 0 or not _is_name(chunk[:4]):
            return None
        at += 12 + size
