"""ABX against triples counted by hand, one at a time, and the command on synthetic speech and on TIMIT."""

from __future__ import annotations

import csv
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from naming import mentions, naming

from s3prl_aalbert.cli import main
from s3prl_aalbert.downstream.abx import AbxErrors, abx_errors, load_segments, pool_segments
from s3prl_aalbert.downstream.alignments import Segment
from s3prl_aalbert.downstream.paired import differences, mean_and_error, percent
from s3prl_aalbert.downstream.phone.config import PhoneDataConfig
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus


def angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_a_case_done_by_hand() -> None:
    """One speaker: p at 0 and 40 degrees, q at 30 and 90; the cosine falls as the angle grows.

    X=0, A=40: B=30 is nearer (wrong), 90 is not. X=40, A=0: B=30 nearer (wrong), 90 not (50 against 40). p: 2 of 4.
    X=30, A=90: B=0 (30 < 60) and 40 (10 < 60) wrong. X=90, A=30 (60): B=0 (90) right, 40 (50) wrong. q: 3 of 4.
    """
    errors = abx_errors(angles(0, 40, 30, 90), ["p", "p", "q", "q"], ["s"] * 4)
    assert errors.within() == {"s": pytest.approx((2 / 4 + 3 / 4) / 2)}
    assert errors.across() == {}


def test_across_speakers_takes_x_from_the_other_one() -> None:
    """A and B of s: p at 0, q at 90. X of t: p at 80 (nearer to q: wrong), q at 60 (nearer to q: right).

    A and B of t, X of s: p at 0 is nearer to 60 than to 80 (wrong), q at 90 nearer to 80, a p (wrong).
    """
    errors = abx_errors(angles(0, 90, 80, 60), ["p", "q", "p", "q"], ["s", "s", "t", "t"])
    assert errors.matrix[0, 1] == pytest.approx(0.5) and errors.matrix[1, 0] == pytest.approx(1.0)
    assert errors.across() == {"s, t": pytest.approx(0.75)}
    assert errors.within() == {}  # no second segment of a phone


def test_the_error_across_speakers_counts_a_speaker_as_ab_and_as_x() -> None:
    """Pairs are independent in neither direction: 4,000 corpora of 16 speakers, who differ in both roles."""
    generator, size, means, errors = np.random.default_rng(0), 16, [], []
    names = [str(i) for i in range(size)]
    for _ in range(4000):
        as_ab, as_x = generator.normal(0, 0.012, (size, 1)), generator.normal(0, 0.018, size)
        matrix = 0.19 + as_ab + as_x + generator.normal(0, 0.02, (size, size))
        mean, error = mean_and_error(AbxErrors(names, matrix).across())
        means.append(mean)
        errors.append(error**2)
        assert mean == pytest.approx(matrix[~np.eye(size, dtype=bool)].mean())
    assert np.sqrt(np.mean(errors)) == pytest.approx(np.std(means), rel=0.05)


def test_a_speaker_without_triples_does_not_count() -> None:
    one, other = np.array([[0.5, 0.1, 0.2], [0.3, 0.5, 0.4], [0.1, 0.6, 0.5]]), np.full((4, 4), np.nan)
    other[np.ix_([0, 1, 3], [0, 1, 3])] = one
    expected = AbxErrors(["a", "b", "d"], one).across()
    assert AbxErrors(["a", "b", "c", "d"], other).across() == expected
    # Without a: (0.4 + 0.6) / 2, without b: 0.15, without d: 0.2; the mean of all is 1.7 / 6.
    assert expected == {"a": pytest.approx(0.85 - 1.0), "b": pytest.approx(0.85 - 0.3), "d": pytest.approx(0.85 - 0.4)}


def test_a_tie_counts_one_half() -> None:
    errors = abx_errors(np.ones((3, 5)) * [[1], [2], [3]], ["p", "p", "q"], ["s"] * 3)
    assert errors.within() == {"s": 0.5}


def test_random_segments_against_a_loop_over_all_triples() -> None:
    generator = np.random.default_rng(3)
    vectors, number = generator.normal(size=(40, 6)), 40
    phones, speakers = generator.integers(4, size=number), generator.integers(3, size=number)
    errors = abx_errors(vectors, phones.astype(str), speakers.astype(str))
    cosine = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    for s, t in itertools.product(range(3), repeat=2):
        cells: dict[tuple[int, int], list[float]] = {}
        for a, b, x in itertools.permutations(range(number), 3):
            if speakers[a] == speakers[b] == s and speakers[x] == t and phones[a] == phones[x] != phones[b]:
                cells.setdefault((phones[a], phones[b]), []).append(float(cosine[b, x] > cosine[a, x]))
        assert errors.matrix[s, t] == pytest.approx(np.mean([np.mean(found) for found in cells.values()]), abs=1e-9)


def test_segments_are_means_over_frames_whose_centres_they_hold() -> None:
    states = np.array([[0.0], [1.0], [2.0], [3.0]])  # tokens of 30 ms: frames 0-2, 3-5, 6-8, 9-11
    segments = [Segment(0.0, 0.03, "a"), Segment(0.02, 0.06, "b"), Segment(0.026, 0.064, "c"), Segment(0.09, 0.2, "d")]
    pooled = pool_segments(states, 480, segments)
    # b: frames 2 to 5; c: centres 35 to 55 ms, frames 3 to 5; d: past the end the last token answers
    np.testing.assert_allclose(pooled[:, 0], [0, 3 / 4, 1, 3])
    ten_ms = np.arange(12.0)[:, None]
    np.testing.assert_allclose(pool_segments(ten_ms, 160, segments[:2])[:, 0], [1, (2 + 3 + 4 + 5) / 4])


def test_means_errors_and_differences() -> None:
    mean, error = mean_and_error({"a": 0.1, "b": 0.2, "c": 0.6})
    assert mean == pytest.approx(0.3) and error == pytest.approx(np.sqrt((0.04 + 0.01 + 0.09) / 2 / 3))
    less = differences({"a": 0.5, "b": 0.3, "d": 1.0}, {"a": 0.4, "b": 0.1, "c": 0.0})
    assert less == {"a": pytest.approx(0.1), "b": pytest.approx(0.2)}
    assert percent(less, sign=True) == "+15.0 ± 5.0" and percent({"a": 0.1234}) == "12.3"


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    return synthesise_corpus(folder, num_speakers=3, utterances_per_speaker=2, seconds=(1.0, 1.2), seed=1)


def test_the_command_records_every_pair_of_speakers(
    speech: Path, tiny_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "abx.csv"
    argv = ["abx", "-u", "aalbert_local", "-k", str(tiny_release), "--speech", str(speech), "--exclude"]
    assert main([*argv, "--out", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (4 + 1) * 9  # three layers and the input embedding; the features; 3 x 3 speakers
    assert {row["upstream"] for row in rows} == {"aalbert_local", "aalbert_features"}
    within = [float(r["error"]) for r in rows if r["layer"] == "0" and r["condition"] == "within"]
    shown = capsys.readouterr().out.splitlines()
    assert shown[2].split()[:2] == ["0", f"{100 * np.mean(within[:3]):.1f}"] and len(shown) == 2 + 5
    options = ["-u", "aalbert_features", "-s", "no_cmvn", "--speech", str(speech), "--exclude", "--out", str(out)]
    assert main(["abx", *options]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        found = {(row["upstream"], row["selection"]): row["error"] for row in csv.DictReader(file)}
    assert set(found) == {("aalbert_features", "no_cmvn"), ("aalbert_features", "hidden_states")}
    capsys.readouterr()
    assert main([*argv, "-l", "2", "--against", "none"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["2"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["-l", "7"], ["-l 7", "aalbert_features", 1]),
        (["-s", "no"], ["-s no", "hidden_states"]),
        (["--phone-set", "40"], ["phone_set", '"40"']),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    speech: Path, options: list[str], named: list, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["abx", "-u", "aalbert_features", "--speech", str(speech), "--exclude", "--against", "none", *options])
        == 2
    )
    assert mentions(capsys.readouterr().err, *named)


def test_one_speaker_is_refused(speech: Path) -> None:
    folder = next(path for path in sorted(speech.rglob("*.phn"))).parent
    with pytest.raises(AalbertError, match=naming(folder, "1 speakers")):
        load_segments(PhoneDataConfig(str(folder), phone_set="39"))


def test_audio_that_does_not_fit_its_labels_is_skipped_and_counted(
    speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in the phone task: a part of it would be compared with what follows the end of the audio."""
    caplog.set_level("INFO")
    shutil.copytree(speech, tmp_path / "speech")
    cut, silent, *others = sorted((tmp_path / "speech").rglob("*.wav"))
    samples, rate = soundfile.read(cut)
    soundfile.write(cut, samples[: len(samples) // 2], rate)
    soundfile.write(silent, np.zeros(len(samples)), rate)
    found = load_segments(PhoneDataConfig(str(tmp_path / "speech"), phone_set="39"))
    assert {one.path for one in found} == {str(path) for path in others}
    assert mentions(caplog.text, "ABX", "1 utterance with labels past the end of the audio")
    assert mentions(caplog.text, "ABX", "1 utterance silent")
    for path in others:
        path.with_suffix(".phn").write_text("0 400000 aa\n400000 900000 iy\n")  # milliseconds, say
    with pytest.raises(AalbertError, match="0 speakers and 0 phones"):
        load_segments(PhoneDataConfig(str(tmp_path / "speech"), phone_set="39"))


def test_the_input_features_of_timit(shared_data: Path) -> None:
    """16.6 and 19.2 per cent were measured by another program over the same 3,442 segments."""
    from s3prl_aalbert.audio_io import read_audio
    from s3prl_aalbert.downstream.states import hidden_states
    from s3prl_aalbert.upstream.expert import FeaturesExpert

    spoken = load_segments(PhoneDataConfig(str(shared_data / "timit"), phone_set="39", exclude=["sa1", "sa2"]))
    features = FeaturesExpert().eval()
    torch.set_num_threads(1)
    pooled = [pool_segments(hidden_states(features, read_audio(Path(u.path)))[0], 480, u.segments) for u in spoken]
    phones = [segment.phone for one in spoken for segment in one.segments]
    assert len(phones) == 3442
    errors = abx_errors(np.concatenate(pooled), phones, [one.speaker for one in spoken for _ in one.segments])
    assert mean_and_error(errors.within())[0] == pytest.approx(0.166, abs=0.001)
    assert mean_and_error(errors.across())[0] == pytest.approx(0.192, abs=0.002)
