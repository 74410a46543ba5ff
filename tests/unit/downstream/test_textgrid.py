"""TextGrids of many writers: every interval is there, or the file is refused with the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from naming import mentions, naming

from s3prl_aalbert.downstream.alignments import Segment, read_textgrid
from s3prl_aalbert.errors import AalbertError

PHONES = [("0", "0.25", ""), ("0.25", "1.0", "S"), ("1.0", "1.5", "IY1")]
SEGMENTS = [Segment(0.0, 0.25, ""), Segment(0.25, 1.0, "S"), Segment(1.0, 1.5, "IY1")]


def long_form(tiers: dict[str, list[tuple[str, ...]]], size: int | None = None) -> str:
    """Return Praat's long form; a tier of (time, mark) pairs is one of points."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 1.5", "tiers? <exists>"]
    lines += [f"size = {len(tiers)}", "item []:"]
    for number, (name, rows) in enumerate(tiers.items(), 1):
        points = len(rows[0]) == 2
        kind, word = ("TextTier", "points") if points else ("IntervalTier", "intervals")
        lines += [f"    item [{number}]:", f'        class = "{kind}"', f'        name = "{name}"']
        lines += ["        xmin = 0", "        xmax = 1.5", f"        {word}: size = {size or len(rows)}"]
        for place, row in enumerate(rows, 1):
            lines.append(f"        {word} [{place}]:")
            keys = ("number", "mark") if points else ("xmin", "xmax", "text")
            values = (*row[:-1], '"' + row[-1].replace('"', '""') + '"')
            lines += [f"            {key} = {value}" for key, value in zip(keys, values, strict=True)]
    return "\n".join(lines) + "\n"


def short_form(tiers: dict[str, list[tuple[str, ...]]], size: int | None = None) -> str:
    lines = ['File type = "ooTextFile"', '"TextGrid"', "", "0", "1.5", "<exists>", str(len(tiers))]
    for name, rows in tiers.items():
        kind = "TextTier" if len(rows[0]) == 2 else "IntervalTier"
        lines += [f'"{kind}"', f'"{name}"', "0", "1.5", str(size or len(rows))]
        for row in rows:
            lines += [*row[:-1], '"' + row[-1].replace('"', '""') + '"']
    return "\n".join(lines) + "\n"


FORMS = pytest.mark.parametrize("form", [long_form, short_form])
TONES = [("0.5", "H*"), ("0.7", "L%")]
WORDS = [("0", "1.5", 'he "said" IntervalTier')]


def write(folder: Path, text: str, name: str = "u.TextGrid") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@FORMS
@pytest.mark.parametrize(
    "order", [("tones", "phones", "words"), ("phones", "tones", "words"), ("words", "phones", "tones")]
)
def test_tiers_of_points_and_words_around_the_phones(tmp_path: Path, form, order: tuple[str, ...]) -> None:
    tiers = {"tones": TONES, "words": WORDS, "phones": PHONES}
    path = write(tmp_path, form({name: tiers[name] for name in order}))
    assert read_textgrid(path) == SEGMENTS
    assert read_textgrid(path, "words") == [Segment(0.0, 1.5, 'he "said" IntervalTier')]


@FORMS
@pytest.mark.parametrize(
    "label", ["IntervalTier", "TextTier", "! no comment", "1.5", "[2]", 'a "b"', "two\nlines", "\u00e3"]
)
def test_any_label(tmp_path: Path, form, label: str) -> None:
    path = write(tmp_path, form({"phones": [("0", "0.5", label), ("0.5", "1.5", "S")], "words": WORDS}))
    assert read_textgrid(path) == [Segment(0.0, 0.5, label), Segment(0.5, 1.5, "S")]


@FORMS
@pytest.mark.parametrize("size", [1, 2, 17])
def test_a_wrong_size_beside_whole_intervals(tmp_path: Path, form, size: int) -> None:
    assert read_textgrid(write(tmp_path, form({"phones": PHONES, "tones": TONES}, size))) == SEGMENTS


def test_comments_blanks_and_missing_blanks(tmp_path: Path) -> None:
    text = long_form({"phones": PHONES})
    spoilt = text.replace("xmax = 0.25", 'xmax = 0.25 ! at 0.3 or 0.4 in "b.TextGrid"').replace('"S"', '" S "')
    spoilt = spoilt.replace("xmin = 0.25", "xmin=0.25").replace("intervals [3]:", "intervals [ 3 ] :")
    assert spoilt.count("!") == 1
    assert read_textgrid(write(tmp_path, "! by hand, 3 tiers\n" + spoilt.replace("\n", "\r\n"))) == SEGMENTS


@FORMS
def test_gaps_that_the_writer_left_stay_gaps(tmp_path: Path, form) -> None:
    sparse = [("0.1", "0.3", "S"), ("0.5", "0.9", "IY1")]
    assert read_textgrid(write(tmp_path, form({"phones": sparse}))) == [
        Segment(0.1, 0.3, "S"),
        Segment(0.5, 0.9, "IY1"),
    ]


@pytest.mark.parametrize("line", range(13, 26))
def test_a_line_that_is_lost_is_never_an_interval_less(tmp_path: Path, line: int) -> None:
    """Lines 13 to 25 are those of the intervals: without a header all is still there, without a value nothing is."""
    lines = long_form({"phones": PHONES, "tones": TONES}).splitlines()
    dropped = lines.pop(line)
    path = write(tmp_path, "\n".join(lines))
    if dropped.strip().startswith("intervals ["):
        try:
            assert read_textgrid(path) == SEGMENTS
        except AalbertError as error:
            assert mentions(str(error), "u.TextGrid", "intervals", 3)
        return
    with pytest.raises(AalbertError, match=r"u\.TextGrid: .*(line \d+|\d intervals|interval tier)"):
        read_textgrid(path)


@FORMS
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_an_interval_that_is_lost_whole_is_missed(tmp_path: Path, form, lost: int) -> None:
    path = write(tmp_path, form({"phones": [row for place, row in enumerate(PHONES) if place != lost]}, size=3))
    with pytest.raises(AalbertError, match=naming("2 of 3", "gaps")):
        read_textgrid(path)


@FORMS
def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path, form) -> None:
    text = form({"words": WORDS, "phones": PHONES})
    start = text.index('"phones"')
    for end in range(start, len(text.rstrip()), 3):
        with pytest.raises(AalbertError, match=r"u\.TextGrid: "):
            read_textgrid(write(tmp_path, text[:end]))


@FORMS
@pytest.mark.parametrize("name", ["Phones", "phone", "PHONES", "mary - phones", " phones ", "Mary Ann - Phone"])
def test_names_of_the_tier(tmp_path: Path, form, name: str) -> None:
    assert read_textgrid(write(tmp_path, form({"words": WORDS, name: PHONES}))) == SEGMENTS
    exact = write(tmp_path, form({name: WORDS, "phones": PHONES}))
    assert name.strip() == "phones" or read_textgrid(exact) == SEGMENTS, "the very name comes first"


@FORMS
def test_tiers_are_named_where_none_or_several_fit(tmp_path: Path, form) -> None:
    path = write(tmp_path, form({"words": WORDS, "segments": PHONES, "phones_ipa": TONES}))
    with pytest.raises(AalbertError, match=naming('"phones"', '"words"', '"segments"')):
        read_textgrid(path)
    path = write(tmp_path, form({"mary - phones": PHONES, "john - phones": PHONES}))
    with pytest.raises(AalbertError, match=naming('"phones"', '"mary - phones"', '"john - phones"')):
        read_textgrid(path)
    assert read_textgrid(path, "john - phones") == SEGMENTS


@pytest.mark.parametrize("text", ["", "no TextGrid", 'File type = "ooTextFile"\n"TextGrid"\n0\n1\n<absent>\n'])
def test_a_file_without_tiers(tmp_path: Path, text: str) -> None:
    with pytest.raises(AalbertError, match=naming("u.TextGrid", '"phones"', "none")):
        read_textgrid(write(tmp_path, text))
