"""Discrete units of a corpus: nearest clusters, kept beside the manifest, checked, and gone on with after a kill."""

from __future__ import annotations

import contextlib
import logging
import re
import resource
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from s3prl_aalbert import locking
from s3prl_aalbert.audio_io import AudioError
from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import ModelConfig, from_dict
from s3prl_aalbert.model.objective import NO_UNIT, MaskedPrediction
from s3prl_aalbert.pretrain import units as units_module
from s3prl_aalbert.pretrain.config import PretrainConfig, UnitsConfig
from s3prl_aalbert.pretrain.dataset import SpeechDataset
from s3prl_aalbert.pretrain.unit_features import LayerFeatures, MfccFeatures
from s3prl_aalbert.pretrain.units import Codebook, _compute, fit_codebook, label_corpus
from s3prl_aalbert.pretrain.utterances import Utterance, Utterances

CPU = torch.device("cpu")
LENGTHS = [9000, 4801, 16000, 7000]


def with_units(config: ModelConfig, per_token: int = 1, num_units: int = 5) -> ModelConfig:
    task = replace(config.task, unit_weight=1.0, num_units=num_units, units_per_token=per_token)
    return replace(config, task=task)


@pytest.fixture
def speech(voice) -> list[np.ndarray]:
    return [voice(length, seed).numpy() for seed, length in enumerate(LENGTHS)]


def utterances() -> Utterances:
    splits = ["train", "dev", "train", "train"]
    rows = zip(LENGTHS, splits, strict=True)
    return Utterances([Utterance(f"/{i}.wav", n, "s", split) for i, (n, split) in enumerate(rows)])


def label(config: ModelConfig, speech: list[np.ndarray], folder: Path, **units: object):
    return label_corpus(utterances(), speech.__getitem__, config, UnitsConfig(**units), folder / "manifest.tsv", 0, CPU)


def test_the_nearest_centroid_by_hand() -> None:
    book = Codebook(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 1.0]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]), {})
    # Standardised: (0, 0), (0.9, 0.9), (-1, 0.2), (0.5, 0.6).
    rows = torch.tensor([[1.0, 1.0], [2.8, 1.9], [-1.0, 1.2], [2.0, 1.6]])
    assert book(rows).tolist() == [0, 1, 0, 1]


def test_clusters_that_lie_apart_are_found() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 2000)
    rows = (10 * np.eye(4)[truth] + generator.normal(size=(2000, 4))).astype(np.float32)
    found = fit_codebook(rows, 4, 0, {})(torch.from_numpy(rows)).numpy()
    pairs = set(zip(truth.tolist(), found.tolist(), strict=True))
    assert len(pairs) == 4 == len({unit for _, unit in pairs})
    with pytest.raises(AalbertError, match=r"too few for task\.num_units 3000"):
        fit_codebook(rows, 3000, 0, {})


def test_mfcc_are_the_cosine_transform_of_the_normalised_log_mel(tiny_config: ModelConfig, speech) -> None:
    features = MfccFeatures(with_units(tiny_config, per_token=3))
    found = features(speech[0]).numpy()
    tokens = features.acoustics(torch.from_numpy(speech[0]).unsqueeze(0), torch.tensor([LENGTHS[0]])).tokens[0].numpy()
    mels = tiny_config.audio.num_mel_bins
    n = np.arange(mels)
    for k in range(13):
        scale = np.sqrt((1 if k == 0 else 2) / mels)
        expected = tokens[:, :mels] @ (scale * np.cos(np.pi / mels * (n + 0.5) * k))
        np.testing.assert_allclose(found[:, k], expected, atol=1e-4)
    assert found.shape == (-(-LENGTHS[0] // 160), 26)


@pytest.mark.parametrize("per_token", [1, 3])
def test_every_token_has_the_units_of_its_frames(tiny_config: ModelConfig, speech, tmp_path, per_token) -> None:
    config = with_units(tiny_config, per_token)
    labels = label(config, speech, tmp_path)
    features = MfccFeatures(config)
    (path,) = tmp_path.glob("*.safetensors")
    book = units_module.load_codebook(path, {**features.description, "num_units": 5, "seed": 0, "fit_hours": 2.0})
    for row, wav in enumerate(speech):
        tokens = config.num_tokens(len(wav))
        units = labels.read(row, 0, tokens)
        assert units.shape == (tokens, per_token)
        expected = book(features(wav)).numpy()
        np.testing.assert_array_equal(units.reshape(-1)[: len(expected)], expected)
        assert len(expected) == (tokens if per_token == 1 else config.audio.num_frames(len(wav)))


def test_units_of_a_crop_are_those_of_its_place(tiny_config: ModelConfig, speech, tmp_path) -> None:
    config = with_units(tiny_config, 3)
    corpus = utterances()
    corpus.units = label(config, speech, tmp_path)
    dataset = SpeechDataset(corpus, config, 0.25, seed=0)
    dataset._decode = speech.__getitem__  # type: ignore[method-assign]
    assert dataset.max_samples == 3840  # 0.25 s are 4,000 samples, 8 whole tokens 3,840
    starts = set()
    for epoch in range(20):
        item = dataset[(epoch, 2)]
        (start,) = [s for s in range(0, 16000 - 3840 + 1, 480) if np.array_equal(speech[2][s : s + 3840], item.wav)]
        starts.add(start)
        np.testing.assert_array_equal(item.units, corpus.units.read(2, start // 480, 8))
    assert len(starts) > 5
    # A whole utterance of 31 frames: its eleventh token has one, the others of it have no unit.
    short = SpeechDataset(corpus, config, 10, seed=0)
    short._decode = speech.__getitem__  # type: ignore[method-assign]
    units = short[(0, 1)].units
    assert (units == NO_UNIT).sum() == 2 and units[10].tolist()[1:] == [NO_UNIT] * 2
    batch = short.collate([short[(0, 1)], short[(0, 0)]])
    assert batch.units.shape == (2, 19, 3) and (batch.units[0, 11:] == NO_UNIT).all()


def test_labels_are_computed_once_and_gone_on_with(tiny_config, speech, tmp_path, monkeypatch) -> None:
    config, read = with_units(tiny_config), []

    def reading(row: int) -> np.ndarray:
        read.append(row)
        if len(read) == 6:  # after the three of clustering and two labels
            raise KeyboardInterrupt
        return speech[row]

    def run(reader) -> object:
        return label_corpus(utterances(), reader, config, UnitsConfig(), tmp_path / "manifest.tsv", 0, CPU)

    with pytest.raises(KeyboardInterrupt):
        run(reading)
    (part,) = tmp_path.glob(".*.part")
    assert not list(tmp_path.glob("*.npy"))
    assert part.stat().st_size == 2 * (19 + 11), "nothing but the labels of two utterances"
    part.write_bytes(part.read_bytes() + bytes(7))  # some of the third, in whose middle the process was killed
    read.clear()
    labels = run(lambda row: read.append(row) or speech[row])
    assert read == [2, 3]
    read.clear()
    again = run(lambda row: read.append(row) or speech[row])
    assert not read and not list(tmp_path.glob(".*.part"))
    fresh = label(config, speech, tmp_path / "elsewhere")
    for row in range(4):
        tokens = config.num_tokens(LENGTHS[row])
        np.testing.assert_array_equal(labels.read(row, 0, tokens), again.read(row, 0, tokens))
        np.testing.assert_array_equal(labels.read(row, 0, tokens), fresh.read(row, 0, tokens))


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writing fail as on a full disk: after the part that still fits."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_sentence_and_leaves_no_false_labels(tiny_config, speech, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")  # its bar would be written under the limit too
    config = with_units(tiny_config)
    expected = label(config, speech, tmp_path)
    (path,) = tmp_path.glob("*.npy")
    whole = path.read_bytes()
    path.unlink()
    part, room = path.with_name(f".{path.name}.part"), 2 * (19 + 5) + 1
    with largest_file(room), pytest.raises(AalbertError, match=re.escape(f"{part}: could not be written")):
        label(config, speech, tmp_path)
    assert not path.exists() and part.stat().st_size == room
    read: list[int] = []
    book = UnitsConfig(), tmp_path / "manifest.tsv", 0, CPU
    found = label_corpus(utterances(), lambda row: read.append(row) or speech[row], config, *book)
    assert read == [1, 2, 3] and path.read_bytes() == whole and not part.exists()
    np.testing.assert_array_equal(found.read(1, 0, 11), expected.read(1, 0, 11))


@pytest.mark.parametrize("clustered", [True, False])
def test_a_second_process_waits_and_finds_the_units(tiny_config, speech, tmp_path, monkeypatch, clustered) -> None:
    config, read, found, waits = with_units(tiny_config), [], [], threading.Event()
    if clustered:
        label(config, speech, tmp_path)
        next(tmp_path.glob("*.npy")).unlink()
    monkeypatch.setattr(locking.logger, "info", lambda *_: waits.set())

    def run(reader) -> None:
        found.append(label_corpus(utterances(), reader, config, UnitsConfig(), tmp_path / "manifest.tsv", 0, CPU))

    second = threading.Thread(target=run, args=(lambda row: read.append(row) or speech[row],))

    def reading(row: int) -> np.ndarray:
        if not second.ident:
            second.start()
            assert waits.wait(20), "the second one does not wait"
        return speech[row]

    run(reading)
    second.join()
    assert not read if clustered else len(read) in (0, 4)  # between clustering and labelling, either may go on
    assert len(found) == 2 and len(list(tmp_path.glob("*.npy"))) == 1 and not list(tmp_path.glob(".*.part"))
    for row, length in enumerate(LENGTHS):
        tokens = config.num_tokens(length)
        np.testing.assert_array_equal(found[0].read(row, 0, tokens), found[1].read(row, 0, tokens))


@pytest.mark.parametrize("change", [{"mtime": 8}, {"size": 8}])
def test_changed_files_get_new_labels_of_the_same_codebook(tiny_config, speech, tmp_path, caplog, change) -> None:
    """A file that is written anew may be as long as before; a run that goes on needs units of the same meaning."""

    def labels(row: int) -> int:
        rows = [known._replace(size=7, mtime=7) for known in utterances()]
        rows[row] = rows[row]._replace(**change)
        arguments = with_units(tiny_config), UnitsConfig(), tmp_path / "manifest.tsv", 0, CPU
        label_corpus(Utterances(rows), speech.__getitem__, *arguments)
        return len(list(tmp_path.glob("*.npy")))

    change, changed = {}, change
    caplog.set_level(logging.WARNING)
    assert [labels(0), labels(0)] == [1, 1]
    change = changed
    assert labels(1) == 2 and not caplog.text, "it is of the dev split: the codebook has not heard it"
    assert labels(2) == 3 and "its clusters are of other training files" in caplog.text
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_audio_of_another_length_than_the_manifests_is_named(tiny_config, tmp_path) -> None:
    """Its units would be those of its neighbours: here 8 kHz files, of which the manifest has their own samples."""
    rows = []
    for name, length in (("a", 9000), ("b", 5000)):
        noise = np.random.default_rng(length).normal(scale=0.1, size=length)
        soundfile.write(tmp_path / f"{name}.wav", noise, 8000)
        rows.append(Utterance(str(tmp_path / f"{name}.wav"), length, "s", "train"))
    corpus, config = Utterances(rows), with_units(tiny_config)
    sentence = r"/a\.wav: has 18000 samples at 16 kHz, but the manifest's length is 9000;"
    read = SpeechDataset(corpus, config, 10, seed=0).wav
    with pytest.raises(AudioError, match=sentence):
        label_corpus(corpus, read, config, UnitsConfig(), tmp_path / "manifest.tsv", 0, CPU)
    assert not list(tmp_path.glob("manifest.units-*")), "nothing is clustered"
    corpus.units = units_module.random_units(corpus, config, 0)
    with pytest.raises(AudioError, match=sentence):
        SpeechDataset(corpus, config, 10, seed=0)[(0, 0)]
    item = SpeechDataset(corpus, tiny_config, 10, seed=0)[(0, 0)]
    assert item.units is None and len(item.wav) == 18000, "without units, an estimate will do"


def test_another_corpus_or_setting_gets_labels_of_its_own(tiny_config, speech, tmp_path) -> None:
    label(with_units(tiny_config), speech, tmp_path)
    label(with_units(tiny_config, num_units=6), speech, tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == len(list(tmp_path.glob("*.safetensors"))) == 2
    (damaged, _) = sorted(tmp_path.glob("*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:-10])
    with pytest.raises(AalbertError, match="remove it"):
        for units in (5, 6):
            label(with_units(tiny_config, num_units=units), speech, tmp_path)


def test_tokens_of_one_frame_and_a_unit_a_frame_have_labels_of_their_own(tiny_config, speech, tmp_path) -> None:
    """Both cluster the MFCC of single frames into one codebook; only tokens of three frames can have empty ones."""
    one = replace(tiny_config, transformer=replace(tiny_config.transformer, downsample_rate=1))
    for config, per_token in ((with_units(one), 1), (with_units(tiny_config, 3), 3)):
        counts = [int(config.num_tokens(np.array(length))) for length in LENGTHS]
        labels = label(config, speech, tmp_path)
        assert [len(labels.read(row, 0, count)) for row, count in enumerate(counts)] == counts
        assert labels.units_per_token == per_token
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 and len(list(tmp_path.glob("*.npy"))) == 2


def test_a_damaged_codebook_is_named(tiny_config, speech, tmp_path) -> None:
    label(with_units(tiny_config), speech, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(b"nonsense")
    with pytest.raises(AalbertError, match="is a damaged codebook"):
        label(with_units(tiny_config), speech, tmp_path)


def test_a_layer_of_a_checkpoint_is_clustered(tiny_config, speech, tmp_path) -> None:
    torch.manual_seed(0)
    teacher = MaskedPrediction(tiny_config).eval()
    save_release(tmp_path / "teacher", tiny_config, teacher.state_dict(), "")
    config = with_units(tiny_config)
    plain = LayerFeatures(tmp_path / "teacher", UnitsConfig(str(tmp_path / "teacher"), 1, cmvn="none"), config, CPU)
    with torch.no_grad():
        states = teacher.model(torch.from_numpy(speech[0]).unsqueeze(0), torch.tensor([LENGTHS[0]])).hidden_states
    calls: list[int] = []
    for group in plain.model.encoder.groups:
        group.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(plain(speech[0]), states[1][0])
    assert len(calls) == 1 < len(states) - 1, "no layer after the one that is clustered"
    embedding = LayerFeatures(tmp_path / "teacher", UnitsConfig(str(tmp_path / "teacher"), 0, cmvn="none"), config, CPU)
    torch.testing.assert_close(embedding(speech[0]), states[0][0])
    normalised = LayerFeatures(tmp_path / "teacher", UnitsConfig(str(tmp_path / "teacher"), 1), config, CPU)
    rows = states[1][0].double().numpy()
    expected = (rows - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose(normalised(speech[0]).numpy(), expected, atol=1e-3)
    assert normalised.description != plain.description
    labels = label(config, speech, tmp_path, source=str(tmp_path / "teacher"), layer=1)
    assert set(np.unique(labels.read(2, 0, 34))) <= set(range(5))
    with pytest.raises(AalbertError, match=r"units\.layer is 9"):
        label(config, speech, tmp_path, source=str(tmp_path / "teacher"), layer=9)
    finer = replace(tiny_config, transformer=replace(tiny_config.transformer, downsample_rate=1))
    save_release(tmp_path / "finer", finer, MaskedPrediction(finer).state_dict(), "")
    with pytest.raises(AalbertError, match=r"finer.* 160 samples .*task\.units_per_token 1 has 480"):
        label(config, speech, tmp_path, source=str(tmp_path / "finer"), layer=1)


def test_units_of_a_frame_are_those_of_the_tokens_that_have_it_at_their_centre(tiny_config, speech, tmp_path) -> None:
    teacher = MaskedPrediction(tiny_config).eval()
    save_release(tmp_path / "teacher", tiny_config, teacher.state_dict(), "")
    source = UnitsConfig(str(tmp_path / "teacher"), 1, cmvn="none")
    config = with_units(tiny_config, per_token=3)
    rows = LayerFeatures(tmp_path / "teacher", source, config, CPU)(speech[1])
    wav = torch.from_numpy(speech[1]).unsqueeze(0), torch.tensor([4801])
    with torch.no_grad():
        tokens = teacher.model(*wav).hidden_states[1][0]  # 11, the last one of a single frame
        frames = teacher.model.at_every_frame(*wav).hidden_states[1][0]
    torch.testing.assert_close(rows, frames)
    assert len(frames) == 31 and tokens.shape == (11, 32)
    for count in (4320, 4800, 4960, 5119):
        finer = LayerFeatures(tmp_path / "teacher", source, config, CPU)(speech[2][:count])
        assert len(finer) == -(-count // 160)
    whole = speech[1][:4800]
    alone = LayerFeatures(tmp_path / "teacher", source, with_units(tiny_config), CPU)(whole)
    finer = LayerFeatures(tmp_path / "teacher", source, config, CPU)(whole)
    torch.testing.assert_close(finer[1::3], alone)  # the frame in the middle of a token
    wide = replace(tiny_config, transformer=replace(tiny_config.transformer, downsample_rate=9))
    wide_teacher = MaskedPrediction(wide).eval()
    save_release(tmp_path / "wide", wide, wide_teacher.state_dict(), "")
    source = UnitsConfig(str(tmp_path / "wide"), 1, cmvn="none")
    found = LayerFeatures(tmp_path / "wide", source, with_units(tiny_config), CPU)(whole)  # a token has three units
    with torch.no_grad():
        frames = wide_teacher.model.at_every_frame(torch.from_numpy(whole)[None], torch.tensor([4800])).hidden_states
    torch.testing.assert_close(found, frames[1][0, 1::3])
    for count in (4640, 4960, 5119, 5120):  # 29, 31, 32 and 32 frames: the last unit has 2, 1, 2 and 2
        cut = speech[2][:count]
        with torch.no_grad():
            states = wide_teacher.model.at_every_frame(torch.from_numpy(cut)[None], torch.tensor([count])).hidden_states
        found = LayerFeatures(tmp_path / "wide", source, with_units(tiny_config), CPU)(cut)
        expected = [min(3 * unit + 1, states[1].size(1) - 1) for unit in range(-(-count // 480))]
        torch.testing.assert_close(found, states[1][0, expected])
    labels = label(config, speech, tmp_path, source=str(tmp_path / "teacher"), layer=1)
    assert labels.read(0, 2, 4).shape == (4, 3)


def test_a_front_end_of_a_frame_less_repeats_the_last_unit(tmp_path: Path) -> None:
    bounds = np.array([0, 3, 6])
    _compute(lambda row: torch.tensor([[4, 2], [1, 2, 3]][row]), bounds, tmp_path / "labels.npy")
    assert np.load(tmp_path / "labels.npy").tolist() == [4, 2, 2, 1, 2, 3]


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(AalbertError, match=r"units\.cmvn is .*corpus"):
        from_dict(PretrainConfig, {"units": {"cmvn": "corpus"}})


def test_a_source_and_its_layer_go_together() -> None:
    for values in ({"source": "mfcc", "layer": 2}, {"source": "some/checkpoint"}):
        with pytest.raises(AalbertError, match=r"units\.layer"):
            from_dict(PretrainConfig, {"units": values})
