"""Finds the audio and the alignments of the phoneme task and gives both the same utterance names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from s3prl_aalbert.downstream.alignments import Alignment, phn_beside, read_converted, read_phn, read_textgrid, read_tsv
from s3prl_aalbert.downstream.audio_dataset import by_name, files_below, find_audio, folder_and_stem, stem
from s3prl_aalbert.downstream.left_out import LeftOut
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.downstream.task import as_paths
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.pretrain.corpus import speaker_of


@dataclass(frozen=True)
class Sources:
    """Utterances by name; only those with both audio and labels."""

    audio: Mapping[str, Path]
    alignments: Mapping[str, Alignment]
    speakers: Mapping[str, str]


def read_sources(config: PhoneDataConfig, left_out: LeftOut) -> Sources:
    """Return what has audio and labels, and add the rest to ``left_out``.

    Names are file stems; FOLDER/STEM where stems recur (TIMIT's sa1) or the label file writes them so.

    Raises:
        AalbertError: no audio, no labels, or none that belong together.
    """
    paths = find_audio(as_paths(config.audio))
    kind = format_of(config)
    if kind in ("phn", "textgrid"):
        audio, alignments = _labels_by_file(config, kind, paths, left_out)
    else:
        read = read_tsv if kind == "tsv" else read_converted
        alignments = read(Path(config.alignments or "").expanduser())
        audio = by_name(paths, folder_and_stem if any("/" in name for name in alignments) else stem)
        left_out.add("no_audio", set(alignments) - set(audio))
    unreadable = left_out.found.get("labels_unreadable", {})
    left_out.add("no_labels", set(audio) - set(alignments) - set(unreadable))
    names = sorted(set(audio) & set(alignments))
    if not names:
        first = f"; {next(iter(unreadable.values()))}" if unreadable else ""
        labels = f"{len(alignments)} alignments in {config.alignments}" if config.alignments else ".phn beside it"
        raise AalbertError(f"{config.audio}: none of {len(audio)} audio files has labels ({labels}){first}")
    speakers = {name: speaker_of(audio[name]) for name in names}
    return Sources({n: audio[n] for n in names}, {n: alignments[n] for n in names}, speakers)


def format_of(config: PhoneDataConfig) -> str:
    """Return the format of the labels, guessed from ``datarc.alignments`` where it is "auto"."""
    if config.alignment_format != "auto":
        return config.alignment_format
    if config.alignments is None:
        return "phn"
    path = Path(config.alignments).expanduser()
    if path.is_dir():
        return "textgrid"
    return "tsv" if path.suffix == ".tsv" else "converted"


def _labels_by_file(
    config: PhoneDataConfig, kind: str, paths: list[Path], left_out: LeftOut
) -> tuple[dict[str, Path], dict[str, Alignment]]:
    """Read one label file an utterance: ``.phn`` beside the audio, or TextGrids below ``datarc.alignments``."""
    if kind == "phn":
        audio = by_name(paths, folder_and_stem)
        found = ((name, phn_beside(path)) for name, path in audio.items())
        return audio, _read_each({name: path for name, path in found if path}, read_phn, left_out)
    name_of = stem if max(Counter(path.stem for path in paths).values()) == 1 else folder_and_stem
    audio = by_name(paths, name_of)
    grids = by_name(_textgrids(config), name_of)
    left_out.add("no_audio", set(grids) - set(audio))
    files = {name: path for name, path in grids.items() if name in audio}
    return audio, _read_each(files, partial(read_textgrid, tier=config.tier), left_out)


def _textgrids(config: PhoneDataConfig) -> Iterable[Path]:
    folders = (config.alignments,) if config.alignments else as_paths(config.audio)
    below = (path for folder in folders for path in sorted(files_below(Path(folder).expanduser())))
    found = [path for path in below if path.suffix == ".TextGrid"]
    if not found:
        raise AalbertError(f"{', '.join(folders)}: no *.TextGrid found")
    return found


def _read_each(files: Mapping[str, Path], read: Callable[[Path], Alignment], left_out: LeftOut) -> dict[str, Alignment]:
    alignments, bad = {}, {}
    for name, path in files.items():
        try:
            alignments[name] = read(path)
        except AalbertError as error:
            bad[name] = str(error)
    left_out.add("labels_unreadable", bad)
    return alignments
