"""Phone labels, against labels worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s3prl_aalbert.downstream.alignments import (
    IGNORED,
    Segment,
    fold_stress,
    fold_timit,
    frame_labels,
    labels_of_outputs,
    majority_labels,
    read_converted,
    read_phn,
    read_textgrid,
    read_tsv,
    token_of_grid_frame,
)
from s3prl_aalbert.errors import AalbertError

IDS = {"a": 0, "b": 1}
ALIGNMENT = [Segment(0.0, 0.05, "a"), Segment(0.05, 0.08, "b"), Segment(0.1, 0.12, "a")]

LONG_TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "see"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0.0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 1.0
            text = "S"
        intervals [3]:
            xmin = 1.0
            xmax = 1.5
            text = "IY1"
"""
SHORT_TEXTGRID = """File type = "ooTextFile"
"TextGrid"
0
1.5
<exists>
1
"IntervalTier"
"phones"
0
1.5
3
0.0
0.25
""
0.25
1.0
"S"
1.0
1.5
"IY1"
"""
PHONES = [Segment(0.0, 0.25, ""), Segment(0.25, 1.0, "S"), Segment(1.0, 1.5, "IY1")]


def test_frames_take_the_phone_at_their_centre() -> None:
    # 10 ms frames are centred at 5, 15, ... ms; 0.08-0.1 s carries no phone.
    expected = [0, 0, 0, 0, 0, 1, 1, 1, IGNORED, IGNORED, 0, 0]
    assert frame_labels(ALIGNMENT, IDS, 1920, 160).tolist() == expected


def test_tokens_of_other_rates_by_hand() -> None:
    # 30 ms: centres 15, 45, 75, 105 ms. 37.5 ms (600 samples): 18.75, 56.25, 93.75, 131.25 ms.
    assert frame_labels(ALIGNMENT, IDS, 1920, 480).tolist() == [0, 0, 1, 0]
    assert frame_labels(ALIGNMENT, IDS, 1920, 600).tolist() == [0, 1, IGNORED, IGNORED]
    assert frame_labels(ALIGNMENT, IDS, 1920, 320).tolist() == [0, 0, 1, 1, IGNORED, 0]


def test_majority_by_hand() -> None:
    # 30-60 ms holds 20 ms of a and 10 ms of b; 60-90 ms holds 20 ms of b; 75-112.5 ms holds 5 ms of b, 12.5 ms of a.
    assert majority_labels(ALIGNMENT, IDS, 1920, 480).tolist() == [0, 0, 1, 0]
    assert majority_labels(ALIGNMENT, IDS, 1920, 600).tolist() == [0, 1, 0, 0]


def test_frames_beyond_the_last_token_do_not_change_its_target() -> None:
    """49 tokens of 20 ms cover 98 of 100 frames; HuBERT has no more for a second of audio."""
    labels = labels_of_outputs(np.arange(100), 320, 49)
    assert labels.tolist() == [[frame, frame + 1] for frame in range(0, 98, 2)]
    assert labels_of_outputs(np.arange(8), 480, 2).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_centre_and_majority_differ_where_they_should() -> None:
    alignment = [Segment(0, 0.014, "a"), Segment(0.014, 0.016, "b"), Segment(0.016, 0.03, "a")]
    assert frame_labels(alignment, IDS, 480, 480).tolist() == [1]
    assert majority_labels(alignment, IDS, 480, 480).tolist() == [0]


def test_unknown_phones_and_empty_alignments_are_ignored() -> None:
    assert frame_labels([Segment(0, 1, "zz")], IDS, 320, 160).tolist() == [IGNORED, IGNORED]
    assert frame_labels([], IDS, 320, 160).tolist() == [IGNORED, IGNORED]
    assert majority_labels([], IDS, 320, 160).tolist() == [IGNORED, IGNORED]


@pytest.mark.parametrize("rate", [160, 320, 480, 600])
def test_every_grid_frame_is_answered_by_the_token_over_its_centre(rate: int) -> None:
    num_samples = 4801
    grid, tokens = -(-num_samples // 160), round(num_samples / rate)
    expected = []
    for frame in range(grid):
        centre = frame * 160 + 80
        covering = [t for t in range(tokens) if rate * t <= centre < rate * (t + 1)]
        expected.append(covering[0] if covering else tokens - 1)
    assert token_of_grid_frame(grid, rate, tokens).tolist() == expected


def test_timit_folds_to_39_classes() -> None:
    symbols = """
        aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh k kcl
        l m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh
    """.split()  # noqa: SIM905
    assert len(symbols) == 61
    assert len({fold_timit(s, 61) for s in symbols}) == 61
    assert len({fold_timit(s, 48) for s in symbols} - {None}) == 48
    assert len({fold_timit(s, 39) for s in symbols} - {None}) == 39
    assert fold_timit("q", 39) is None
    assert [fold_timit(s, 39) for s in ("ao", "ix", "zh", "pau", "gcl", "axr", "hv")] == [
        "aa",
        "ih",
        "sh",
        "sil",
        "sil",
        "er",
        "hh",
    ]


def test_stress() -> None:
    assert [fold_stress(p) for p in ("AH0", "IY1", "T", "spn")] == ["AH", "IY", "T", "spn"]


@pytest.mark.parametrize("text", [LONG_TEXTGRID, SHORT_TEXTGRID])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_textgrids(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "u.TextGrid"
    path.write_text(text, encoding=encoding)
    assert read_textgrid(path) == PHONES


def test_other_formats(tmp_path: Path) -> None:
    (tmp_path / "a.phn").write_text("0 1600 h#\n1600 4800 aa\n")
    assert read_phn(tmp_path / "a.phn") == [Segment(0, 0.1, "h#"), Segment(0.1, 0.3, "aa")]
    (tmp_path / "a.tsv").write_text("utterance\tstart\tend\tphone\nu1\t0.5\t1\tb\nu1\t0\t0.5\ta\nu2\t0\t1\tc\n")
    assert read_tsv(tmp_path / "a.tsv") == (
        {
            "u1": [Segment(0, 0.5, "a"), Segment(0.5, 1, "b")],
            "u2": [Segment(0, 1, "c")],
        },
        {},
    )
    (tmp_path / "converted.txt").write_text("u1 5 5 7\n")
    (converted,) = read_converted(tmp_path / "converted.txt").alignments.values()
    assert frame_labels(converted, {"5": 0, "7": 1}, 480, 160).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.phn", "0 ten aa\n", "line 1"),
        ("x.phn", "0 100 aa\n50 200 b\n", "overlap"),
        ("x.TextGrid", LONG_TEXTGRID.replace('"phones"', '"fones"'), 'no interval tier "phones"'),
        ("x.tsv", "u1\t0\tb\n", "line 1"),
    ],
)
def test_bad_alignments_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    read = {".phn": read_phn, ".TextGrid": read_textgrid, ".tsv": read_tsv}[path.suffix]
    with pytest.raises(AalbertError, match=message) as caught:
        read(path)
    assert name in str(caught.value)


def test_labels_cover_the_grid_of_real_speech(shared_data: Path) -> None:
    wav = shared_data / "timit" / "dr1-fvmh0" / "sx206.wav"
    if not wav.exists():
        wav = sorted((shared_data / "timit").rglob("*.wav"))[0]
    alignment = read_phn(wav.with_suffix(".phn"))
    ids = {phone: i for i, phone in enumerate(sorted({s.phone for s in alignment}))}
    samples = round(alignment[-1].end * 16000)
    labels = frame_labels(alignment, ids, samples, 160)
    assert (labels != IGNORED).mean() > 0.99
    shares = np.bincount(labels[labels >= 0], minlength=len(ids)) / len(labels)
    longest = max(alignment, key=lambda s: s.end - s.start)
    assert shares[ids[longest.phone]] >= 0.9 * (longest.end - longest.start) / (samples / 16000)
