"""``aalbert features``: the upstream's own states, one utterance at a time, resumable, with nothing mixed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import soundfile
import torch
from naming import mentions, naming
from torch import Tensor, nn

from s3prl_aalbert.audio_io import read_audio
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.cli import main
from s3prl_aalbert.downstream.features import FeatureOptions, name_utterances, write_features
from s3prl_aalbert.downstream.states import device_of
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.upstream.expert import FeaturesExpert, UpstreamExpert

LENGTHS = {"a/one.wav": 16000, "a/two.wav": 4801, "b/deep/one.flac": 7000}


@pytest.fixture
def speech(tmp_path: Path, voice) -> Path:  # type: ignore[no-untyped-def]
    for seed, (name, samples) in enumerate(LENGTHS.items()):
        path = tmp_path / "speech" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, voice(samples, seed).numpy(), 16000)
    return tmp_path / "speech"


def features(release: Path, *argv: object) -> int:
    return main(["features", "-u", "aalbert_local", "-k", str(release), "--device", "cpu", *map(str, argv)])


def reference(release: Path, path: Path) -> list[np.ndarray]:
    """Return every hidden state as a user of the upstream would get it."""
    with torch.no_grad():
        states = UpstreamExpert(str(release)).eval()([torch.from_numpy(read_audio(path))])["hidden_states"]
    return [state[0].numpy() for state in states]


@pytest.mark.parametrize(("typed", "chosen"), [(None, -1), ("0", 0), ("2", 2), ("-2", 2), ("all", slice(None))])
def test_features_are_the_upstreams_states(
    tiny_release: Path, speech: Path, tmp_path: Path, typed: str | None, chosen: int | slice
) -> None:
    assert features(tiny_release, *(["-l", typed] if typed else []), speech, tmp_path / "out") == 0
    for name in LENGTHS:
        found = np.load((tmp_path / "out" / name).with_suffix(".npy"))
        np.testing.assert_array_equal(found, np.stack(reference(tiny_release, speech / name))[chosen])
        assert found.dtype == np.float32 and found.shape[-2:] == (-(-LENGTHS[name] // 480), 32)


def test_safetensors_of_files_and_of_several_folders(tiny_release: Path, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = [speech / "a" / "two.wav", speech / "a", speech / "b"]
    assert features(tiny_release, "--format", "safetensors", *inputs, out) == 0
    for name, path in (("two", "a/two.wav"), ("a/two", "a/two.wav"), ("b/deep/one", "b/deep/one.flac")):
        content = safetensors.numpy.load_file(out / f"{name}.safetensors")
        np.testing.assert_array_equal(content["features"], reference(tiny_release, speech / path)[-1])


def test_the_list_is_kaldis(tiny_release: Path, speech: Path, tmp_path: Path) -> None:
    (speech / "a" / "one.wav").rename(speech / "a" / "one 50% é.wav")
    out = tmp_path / "out"
    assert features(tiny_release, speech, out) == 0
    listed = dict(line.split(maxsplit=1) for line in (out / "feats.scp").read_text(encoding="utf-8").splitlines())
    assert listed == {
        "a/one%2050%25%20%C3%A9": str(out / "a" / "one 50% é.npy"),
        "a/two": str(out / "a" / "two.npy"),
        "b/deep/one": str(out / "b" / "deep" / "one.npy"),
    }


def test_a_second_run_adds_what_is_missing(
    tiny_release: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert features(tiny_release, speech, out) == 0
    kept, again = out / "a" / "two.npy", out / "a" / "one.npy"
    before = kept.stat().st_mtime_ns, again.read_bytes()
    again.unlink()
    capsys.readouterr()
    assert features(tiny_release, speech, out) == 0
    assert (kept.stat().st_mtime_ns, again.read_bytes()) == before
    assert mentions(capsys.readouterr().out, "1 files", 2)


def test_features_of_another_file_of_the_same_name_are_not_kept(
    tiny_release: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    assert features(tiny_release, speech, out) == 0
    shutil.copytree(speech / "a", other / "a")
    assert features(tiny_release, other, out) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert mentions(message, str(out / "a" / "one.npy"), str(speech / "a" / "one.wav"), str(other / "a" / "one.wav"))
    (out / "a" / "one.npy").unlink()
    (out / "a" / "two.npy").unlink()
    assert features(tiny_release, other, out) == 0
    (out / "speech.json").write_text("3")
    assert features(tiny_release, speech, out) == 2
    assert "speech.json: is damaged" in capsys.readouterr().err


def test_speech_that_is_added_does_not_leave_the_list(
    tiny_release: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert features(tiny_release, speech / "b", out) == 0
    monkeypatch.chdir(speech / "a")
    assert features(tiny_release, speech / "a" / ".." / "a" / "two.wav", out) == 0
    assert features(tiny_release, "two.wav", "one.wav", out) == 0  # the same file by another path
    names = ["deep/one", "one", "two"]
    assert [line.split()[0] for line in (out / "feats.scp").read_text(encoding="utf-8").splitlines()] == names
    speech_of = json.loads((out / "speech.json").read_text())
    paths = {"deep/one": speech / "b/deep/one.flac"} | {name: speech / f"a/{name}.wav" for name in ("one", "two")}
    assert speech_of == {
        name: {"path": str(path), "size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}
        for name, path in paths.items()
    }


def test_features_of_a_file_that_has_changed_are_computed_again(speech: Path, tmp_path: Path, voice) -> None:  # type: ignore[no-untyped-def]
    out, one, two = tmp_path / "out", speech / "a" / "one.wav", speech / "a" / "two.wav"

    def write() -> tuple[int, int]:
        done = write_features(Counting(1), name_utterances([speech]), out, FeatureOptions(), {})
        return done.written, done.kept

    assert write() == (3, 0) and write() == (0, 3)
    before = one.stat()
    soundfile.write(one, voice(16000, 7).numpy(), 16000)  # of the same size
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    soundfile.write(two, voice(9000, 8).numpy(), 16000)
    os.utime(two, ns=(before.st_atime_ns, json.loads((out / "speech.json").read_text())["a/two"]["mtime_ns"]))
    assert write() == (2, 1)
    for path in (one, two):
        found = np.load((out / path.relative_to(speech)).with_suffix(".npy"))
        np.testing.assert_array_equal(found[:, 0], read_audio(path)[::160])
    assert write() == (0, 3)


def test_an_interrupted_run_does_not_take_old_features_for_those_of_new_audio(
    speech: Path,
    tmp_path: Path,
    voice,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    out, one = tmp_path / "out", speech / "a" / "one.wav"
    utterances = name_utterances([one])
    write_features(Counting(1), utterances, out, FeatureOptions(), {})
    soundfile.write(one, voice(12000, 7).numpy(), 16000)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Counting, "forward", lambda self, wavs: (_ for _ in ()).throw(KeyboardInterrupt))
        write_features(Counting(1), utterances, out, FeatureOptions(), {})
    assert write_features(Counting(1), utterances, out, FeatureOptions(), {}).written == 1
    assert len(np.load(out / "one.npy")) == 75


def test_features_beside_a_list_of_an_earlier_version_are_kept(speech: Path, tmp_path: Path) -> None:
    out, utterances = tmp_path / "out", name_utterances([speech])
    write_features(Counting(1), utterances, out, FeatureOptions(), {})
    listed = {name: str(path) for name, path in utterances.items()}
    (out / "speech.json").write_text(json.dumps(listed))
    assert write_features(Counting(1), utterances, out, FeatureOptions(), {}).kept == 3
    os.utime(speech / "a" / "one.wav", ns=(0, 0))  # known from now on
    assert write_features(Counting(1), utterances, out, FeatureOptions(), {}).kept == 2
    for damaged in (3, [], {"path": 3}, {"path": "a", "size": "b"}, {"other": 1}):
        (out / "speech.json").write_text(json.dumps({**listed, "a/one": damaged}))
        with pytest.raises(AalbertError, match=naming("speech.json", "damaged")):
            write_features(Counting(1), utterances, out, FeatureOptions(), {})


def test_the_same_weights_by_another_path_are_the_same(
    tiny_release: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_release, tmp_path / "x")
    monkeypatch.chdir(tmp_path)
    one, two = speech / "a" / "one.wav", speech / "a" / "two.wav"
    for spelling in ("x", "./x", tmp_path / "x" / "model.safetensors"):
        assert features(Path(spelling), one, two, tmp_path / "out") == 0


def test_the_same_weights_in_another_number_of_layers_are_another_kind(
    tiny_config: ModelConfig, tiny_release: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shared layers have the same weights, however many there are."""
    deeper = replace(tiny_config, transformer=replace(tiny_config.transformer, num_hidden_layers=4))
    save_release(tmp_path / "deeper", deeper, load_checkpoint(tiny_release).state, card="")
    assert features(tiny_release, speech, tmp_path / "out") == 0
    capsys.readouterr()
    assert features(tmp_path / "deeper", speech, tmp_path / "out") == 2
    assert mentions(capsys.readouterr().err, "architecture.transformer.num_hidden_layers", 3, 4)


def test_another_sub_network_of_the_same_weights_is_another_kind(
    tiny_release: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arch, out = tmp_path / "arch.yaml", tmp_path / "out"
    sizes = "hidden_size: 32\nnum_attention_heads: 1\nintermediate_size: 16\nnum_hidden_layers: "
    arch.write_text(f"{sizes}2\n")
    assert features(tiny_release, "-g", arch, speech / "a" / "one.wav", out) == 0
    arch.write_text(f"{sizes}1\n")
    assert features(tiny_release, "-g", arch, speech / "a", out) == 2
    assert "model_config_sha256" in capsys.readouterr().err
    arch.write_text(f"{sizes}2\n")
    assert features(tiny_release, "-g", arch, speech / "a", out) == 0


def test_two_kinds_of_features_are_not_mixed(
    tiny_release: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert features(tiny_release, speech, out) == 0
    assert features(tiny_release, "-l", "1", speech, out) == 2
    assert mentions(capsys.readouterr().err, "layer -1", 1)
    (out / "features.json").write_text("[]")
    assert features(tiny_release, speech, out) == 2
    assert "is damaged" in capsys.readouterr().err


def test_other_weights_of_the_same_name_are_another_kind(speech: Path, tmp_path: Path) -> None:
    utterances = name_utterances([speech])
    for seed, expected in ((1, "wrote"), (1, "kept"), (2, "refused")):
        upstream = Counting(seed)
        if expected == "refused":
            with pytest.raises(AalbertError, match=naming("another kind", "weights")):
                write_features(upstream, utterances, tmp_path / "out", FeatureOptions(), {"upstream": "counting"})
            continue
        done = write_features(upstream, utterances, tmp_path / "out", FeatureOptions(), {"upstream": "counting"})
        assert (done.written, done.kept) == ((3, 0) if expected == "wrote" else (0, 3))


class Counting(nn.Module):
    """An upstream that notes the batches it gets, and cannot take short waveforms."""

    def __init__(self, seed: int, shortest: int = 0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), float(seed)))
        self.shortest, self.batches = shortest, []

    def get_downsample_rates(self, key: str) -> int:
        return 160

    def forward(self, wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        self.batches.append([len(wav) for wav in wavs])
        if min(map(len, wavs)) < self.shortest:
            raise RuntimeError("Kernel size can't be greater than\n actual input size")
        return {"hidden_states": [wav[::160, None].unsqueeze(0) for wav in wavs]}


def test_one_utterance_at_a_time_and_what_cannot_be_used_is_listed(speech: Path, tmp_path: Path) -> None:
    (speech / "a" / "broken.wav").write_bytes(b"RIFF")
    upstream, out = Counting(1, shortest=5000), tmp_path / "out"
    done = write_features(upstream, name_utterances([speech]), out, FeatureOptions(), {})
    assert sorted(upstream.batches) == [[4801], [7000], [16000], [16000]], "the first: a second of silence, as a check"
    assert done.written == 2 and list(done.skipped) == [str(speech / "a/broken.wav"), str(speech / "a/two.wav")]
    rows = (out / "left_out.tsv").read_text().splitlines()
    assert rows[2] == f"{speech}/a/two.wav\tKernel size can't be greater than actual input size"
    assert len((out / "feats.scp").read_text().splitlines()) == 2
    (speech / "a" / "broken.wav").unlink()
    (speech / "a" / "two.wav").unlink()
    write_features(upstream, name_utterances([speech]), out, FeatureOptions(), {})
    assert not (out / "left_out.tsv").exists()


def test_a_folder_of_which_nothing_can_be_used_is_an_error(speech: Path, tmp_path: Path) -> None:
    (speech / "a" / "one.wav").unlink()  # the others are shorter than the second of silence that is tried first
    with pytest.raises(AalbertError, match=naming("2 files", "Kernel size")):
        write_features(Counting(1, shortest=16000), name_utterances([speech]), tmp_path / "out", FeatureOptions(), {})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-l", "4"], "-l 4: the upstream has the layers 0 to 3 under hidden_states"),
        (["-l", "last"], "-l last: expected the number of a hidden state, or all"),
        (["-s", "nothing"], "-s nothing: the upstream gives hidden_states, last_hidden_state, layer_states"),
    ],
)
def test_mistakes_leave_nothing(
    tiny_release: Path, speech: Path, tmp_path: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert features(tiny_release, *argv, speech, tmp_path / "out") == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"aalbert features: {message}"
    assert not (tmp_path / "out").exists()


def test_two_files_of_one_name_are_told(tiny_release: Path, speech: Path, tmp_path: Path) -> None:
    soundfile.write(speech / "a" / "one.flac", np.zeros(800), 16000)
    assert len(name_utterances([speech])) == len(LENGTHS), "of one recording in two formats one is taken"
    with pytest.raises(AalbertError, match=naming("one.wav", "one.flac")):
        name_utterances([speech / "a" / "one.wav", speech / "a" / "one.flac"])


@pytest.mark.parametrize(("name", "kind"), [("nowhere", "no such folder"), ("nowhere.FLAC", "no such file")])
def test_an_input_that_is_not_there_is_named(speech: Path, name: str, kind: str) -> None:
    with pytest.raises(AalbertError, match=naming(speech / name, kind)):
        name_utterances([speech / name])


def test_features_without_weights_are_computed_where_their_buffers_are() -> None:
    assert device_of(FeaturesExpert()).type == "cpu"
    assert device_of(FeaturesExpert().to("meta")).type == "meta"
    assert device_of(nn.Identity()).type == "cpu"


def test_an_upstream_of_s3prl(speech: Path, tmp_path: Path) -> None:
    assert main(["features", "-u", "fbank", "--device", "cpu", str(speech), str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "features.json").read_text())
    assert (record["upstream"], record["samples_per_token"]) == ("fbank", 160)
    for name, samples in LENGTHS.items():
        found = np.load((tmp_path / "out" / name).with_suffix(".npy"))
        assert found.shape == (1 + (samples - 400) // 160, 240) and np.isfinite(found).all()
