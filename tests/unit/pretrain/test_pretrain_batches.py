"""The stream of batches: little padding, each utterance at most once, the same however it is shared out or resumed."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from s3prl_aalbert.audio_io import AudioError
from s3prl_aalbert.model.config import AudioConfig, ModelConfig, TaskConfig, TransformerConfig
from s3prl_aalbert.model.masking import length_mask
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.prefetch import prefetch
from s3prl_aalbert.pretrain.batches import Cut, TrainingBatches, dev_loader, epoch_batches
from s3prl_aalbert.pretrain.config import DataConfig
from s3prl_aalbert.pretrain.corpus import load_corpus
from s3prl_aalbert.pretrain.dataset import Batch, Noise, SpeechDataset, utterance_seed
from s3prl_aalbert.pretrain.noise import add_noise
from s3prl_aalbert.pretrain.utterances import Utterance

SEED = 5
MAX_SECONDS = 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 43 recordings of 0.3 to 2 s in which sample i has the value i (of 32768)."""
    folder = tmp_path_factory.mktemp("ramps")
    lengths = np.random.default_rng(0).integers(4800, 32000, 43)
    for index, length in enumerate(lengths):
        (folder / f"s{index % 5}").mkdir(exist_ok=True)
        soundfile.write(folder / f"s{index % 5}" / f"{index}.wav", np.arange(length, dtype=np.int16), 16000)
    return folder


def dataset_of(folder: Path, config: ModelConfig, manifest: Path | None = None, seed: int = SEED) -> SpeechDataset:
    """Return all files of ``folder``, cached beside ``manifest`` if given."""
    data = DataConfig(paths=(str(folder),), dev_fraction=0.0)
    corpus = load_corpus(data, manifest or folder / "unused.tsv", seed, save=manifest is not None)
    return SpeechDataset(corpus.split("train"), config, MAX_SECONDS, seed)


@pytest.fixture(scope="module")
def dataset(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SpeechDataset:
    dataset = dataset_of(folder, MODEL, tmp_path_factory.mktemp("cache") / "m.tsv")
    assert dataset.utterances.cache is not None
    return dataset


TRANSFORMER = TransformerConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
MODEL = ModelConfig(TRANSFORMER, AudioConfig(num_mel_bins=20), TaskConfig(mask_proportion=0.3))


def take(stream: TrainingBatches, count: int) -> list[list[Batch]]:
    return list(itertools.islice(iter(stream), count))


def rows(batches: list[Batch]) -> dict[str, tuple[torch.Tensor, ...]]:
    """Return waveform and mask plan of each utterance without padding, by path."""
    found = {}
    for batch in batches:
        for row, path in enumerate(batch.paths):
            samples = int(batch.num_samples[row])
            tokens = math.ceil(samples / 480)
            assert not batch.wavs[row, samples:].any() and not batch.plan.selected[row, tokens:].any()
            assert path not in found
            plan = batch.plan.selected[row, :tokens], batch.plan.source[row, :tokens]
            found[path] = (batch.wavs[row, :samples], *plan)
    return found


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    first, second = rows(a), rows(b)
    assert first.keys() == second.keys()
    for path in first:
        for x, y in zip(first[path], second[path], strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0)


def assert_identical(a: list[list[Batch]], b: list[list[Batch]]) -> None:
    """Same steps, same micro-batches, same order, same bits."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert [m.paths for m in one] == [m.paths for m in other]
        for x, y in zip(one, other, strict=True):
            assert torch.equal(x.wavs, y.wavs) and torch.equal(x.num_samples, y.num_samples) and x.weight == y.weight
            assert torch.equal(x.plan.selected, y.plan.selected) and torch.equal(x.plan.source, y.plan.source)


# ------------------------------------------------------------------------------------------------ padding


def lengths_of(folder: Path) -> np.ndarray:
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".flac", ".opus"))
    return np.array([soundfile.info(str(p)).duration * 16000 for p in files]).astype(np.int64)


@pytest.fixture(scope="module")
def real_lengths(shared_data: Path) -> dict[str, np.ndarray]:
    """Return the lengths of real corpora (N,) in samples, or skip where a corpus is absent."""
    libri, learners = (
        lengths_of(shared_data / "LibriSpeech" / "train-clean-5"),
        lengths_of(shared_data / "speechocean762"),
    )
    if not (len(libri) and len(learners)):
        pytest.skip(f"no LibriSpeech/train-clean-5 or no speechocean762 in {shared_data}")
    like_100 = np.random.default_rng(0).choice(libri, 28539)  # as many as train-clean-100 has
    return {"learners": learners, "both": np.concatenate([libri, learners]), "like train-clean-100": like_100}


@pytest.mark.parametrize("corpus", ["learners", "both", "like train-clean-100"])
@pytest.mark.parametrize("batch_size", [4, 8, 12, 16, 24, 32, 50, 64, 128])
def test_at_most_5_percent_is_padding(real_lengths: dict[str, np.ndarray], corpus: str, batch_size: int) -> None:
    lengths = np.minimum(real_lengths[corpus], 15 * 16000)
    real = padded = 0
    for epoch in range(2):
        for batch in epoch_batches(lengths, Cut(batch_size, None, 1), SEED, epoch):
            real += int(lengths[batch].sum())
            padded += len(batch) * int(lengths[batch].max())
    assert 1 - real / padded <= 0.05


def test_batches_are_not_in_order_of_length(real_lengths: dict[str, np.ndarray]) -> None:
    lengths = real_lengths["both"]
    means = [lengths[batch].mean() for batch in epoch_batches(lengths, Cut(32, None, 1), SEED, 0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3
    # Who is with whom changes from epoch to epoch.
    pairs = [
        {frozenset(p) for b in epoch_batches(lengths, Cut(32, None, 1), SEED, e) for p in itertools.pairwise(sorted(b))}
        for e in (0, 1)
    ]
    assert len(pairs[0] & pairs[1]) < 0.1 * len(pairs[0])


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(("seconds", "smallest", "largest"), [(7, 1, 3), (40, 2, 20), (200, 13, 32)])
def test_a_limit_in_seconds_holds_for_every_micro_batch(
    real_lengths: dict[str, np.ndarray], seconds: int, smallest: int, largest: int, parts: int
) -> None:
    """The shortest utterance lasts about 2 s, the longest 15."""
    lengths = np.minimum(real_lengths["both"], 15 * 16000)
    sizes = set()
    for batch in epoch_batches(lengths, Cut(32 * parts, seconds * 16000, parts), SEED, 0):
        for micro in np.array_split(batch, parts):
            assert len(micro) == 1 or len(micro) * lengths[micro].max() <= seconds * 16000
            sizes.add(len(micro))
    assert largest / 2 < max(sizes) <= largest and min(sizes) <= smallest


# ------------------------------------------------------------------------------------------ who is in a step


@pytest.mark.parametrize(("count", "size", "parts"), [(43, 4, 1), (43, 8, 4), (1000, 12, 2), (7, 32, 2)])
@pytest.mark.parametrize("max_samples", [None, 60000])
def test_each_utterance_at_most_once_and_hardly_any_never(
    count: int, size: int, parts: int, max_samples: int | None
) -> None:
    lengths = np.random.default_rng(3).integers(5000, 50000, count)
    for epoch in range(3):
        used = np.concatenate(epoch_batches(lengths, Cut(size, max_samples, parts), SEED, epoch))
        assert len(used) == len(set(used.tolist()))
        pools = math.ceil(count / (50 * size))
        assert count - len(used) < (size / 2 if max_samples is None else max(1, parts * pools))


def test_seed_and_epoch_decide() -> None:
    lengths = np.random.default_rng(3).integers(5000, 50000, 500)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(lengths, Cut(8, None, 1), seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_the_stream_is_that_of_earlier_versions() -> None:
    """States on disk say "epoch 0, step 3": what that means must never change (values of the first version)."""
    lengths = (np.arange(23) * 7919) % 97 + 20
    assert [batch.tolist() for batch in epoch_batches(lengths, Cut(4, None, 1), 1337, 0)] == [
        [15, 4, 18, 7], [20, 9, 12, 1], [16, 5, 19, 8], [22, 11, 0], [21, 10, 13, 2], [14, 3, 17, 6]
    ]  # fmt: skip
    assert [batch.tolist() for batch in epoch_batches(lengths, Cut(4, None, 1), 1337, 5)][:2] == [
        [15, 4, 18, 7], [21, 10, 13, 2]
    ]  # fmt: skip
    assert utterance_seed(1337, 2, 3) == 5808602634580447537


@pytest.mark.parametrize(("world_size", "micro_batches"), [(1, 4), (2, 2), (4, 1), (2, 1), (1, 2)])
def test_processes_and_accumulation_share_out_one_batch(
    dataset: SpeechDataset, world_size: int, micro_batches: int
) -> None:
    parts = world_size * micro_batches
    single = take(TrainingBatches(dataset, 8, None, 1), 7)  # 5 steps an epoch: crosses into the next one
    ranks = [
        take(TrainingBatches(dataset, 8 // parts, None, micro_batches, rank, world_size), 7)
        for rank in range(world_size)
    ]
    for step, (whole,) in enumerate(single):
        shared = [micro for rank in ranks for micro in rank[step]]
        assert len(shared) == parts
        assert_same([whole], shared)
        assert sum(micro.weight for micro in shared) == whole.weight


def test_micro_batches_add_up_to_the_loss_and_gradient_of_one(dataset: SpeechDataset) -> None:
    torch.manual_seed(0)
    model = MaskedPrediction(MODEL)
    [[whole]] = take(TrainingBatches(dataset, 8, None, 1), 1)
    [micro] = take(TrainingBatches(dataset, 2, None, 4), 1)
    gradients, totals = [], []
    for group in ([whole], micro):
        model.zero_grad()
        weight = sum(batch.weight for batch in group)
        total = torch.zeros(())
        for batch in group:
            loss = model(batch.speech)
            assert loss.weight.item() == batch.weight
            (loss.total / weight).backward()
            total += loss.total.detach()
        totals.append(total / weight)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(totals[0], totals[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


def test_weight_counts_selected_real_frames(dataset: SpeechDataset) -> None:
    [[batch]] = take(TrainingBatches(dataset, 8, None, 1), 1)
    frames = 0
    for samples, selected in zip(batch.num_samples.tolist(), batch.plan.selected.tolist(), strict=True):
        real_frames = math.ceil(samples / 160)
        frames += sum(selected[frame // 3] for frame in range(real_frames))
    assert batch.weight == frames
    assert batch.wavs.shape == (8, int(batch.num_samples.max()))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(dataset: SpeechDataset, folder: Path, num_workers: int) -> None:
    reference = take(TrainingBatches(dataset, 4, None, 2), 12)
    assert_identical(reference, take(TrainingBatches(dataset, 4, None, 2, num_workers=num_workers), 12))
    if num_workers == 1:  # nor does the cache, for recordings of 16 bits
        assert_identical(reference, take(TrainingBatches(dataset_of(folder, MODEL), 4, None, 2), 12))


def test_too_few_utterances(dataset: SpeechDataset) -> None:
    few = SpeechDataset(dataset.utterances[:3], MODEL, MAX_SECONDS, SEED)
    stream = TrainingBatches(few, 2, None, 2, rank=0, world_size=2)
    with pytest.raises(ValueError, match="3 utterances are too few for 4 micro-batches a step"):
        stream.epoch_steps(0)
    with pytest.raises(ValueError, match="too few"):
        next(iter(stream))


# --------------------------------------------------------------------------------------------- crops, masks


def test_long_utterances_are_cropped_anew_each_epoch(dataset: SpeechDataset) -> None:
    index = int(np.argmax(dataset.utterances.samples))
    length = int(dataset.utterances.samples[index])
    starts = []
    for epoch in range(300):
        wav = dataset[(epoch, index)][0]
        ramp = np.round(wav * 32768).astype(int)
        assert len(wav) == 16000 and (np.diff(ramp) == 1).all()  # a piece, unbroken
        starts.append(ramp[0])
    room = length - 16000
    assert 0 <= min(starts) < 0.05 * room and 0.95 * room < max(starts) <= room
    assert abs(np.mean(starts) / room - 0.5) < 4 * (1 / 12 / 300) ** 0.5
    assert len(set(starts)) > 250


def test_short_utterances_are_whole_and_masked_anew(dataset: SpeechDataset) -> None:
    index = int(np.argmin(dataset.utterances.samples))
    masks = set()
    for epoch in range(20):
        item = dataset[(epoch, index)]
        np.testing.assert_array_equal(item.wav, soundfile.read(item.path, dtype="float32")[0])
        masks.add(tuple(item.plan.selected.tolist()))
    assert len(masks) > 10


def test_single_utterances_can_be_given(dataset: SpeechDataset) -> None:
    some = SpeechDataset(list(dataset.utterances)[:4], MODEL, MAX_SECONDS, SEED)
    assert isinstance(some.utterances[3], Utterance) and some.utterances[3] == dataset.utterances[3]
    np.testing.assert_array_equal(some[(1, 3)][0], dataset[(1, 3)][0])


# --------------------------------------------------------------------------------------------------- noise


def test_without_noise_the_model_hears_what_it_rebuilds(dataset: SpeechDataset) -> None:
    batch = dataset.collate([dataset[(0, index)] for index in range(3)])
    assert (
        batch.noisy_wavs is batch.wavs and batch.to(torch.device("cpu")).noisy_wavs.data_ptr() == batch.wavs.data_ptr()
    )


def test_a_share_of_the_utterances_is_heard_with_noise_and_the_rest_of_them_stays_the_same(
    dataset: SpeechDataset,
) -> None:
    noisy = SpeechDataset(dataset.utterances, MODEL, MAX_SECONDS, SEED, noise=Noise(0.7, (0.0, 15.0)))
    changed = 0
    for epoch in range(10):
        for index in range(len(dataset)):
            clean, item = dataset[(epoch, index)], noisy[(epoch, index)]
            np.testing.assert_array_equal(item.wav, clean.wav)
            assert torch.equal(item.plan.source, clean.plan.source) and len(item.noisy_wav) == len(item.wav)
            changed += item.noisy_wav is not item.wav
            np.testing.assert_array_equal(item.noisy_wav, noisy[(epoch, index)].noisy_wav)  # drawn from the key alone
    assert abs(changed / 430 - 0.7) < 4 * (0.7 * 0.3 / 430) ** 0.5
    batch = noisy.collate([noisy[(0, index)] for index in range(8)])
    assert batch.noisy_wavs.shape == batch.wavs.shape and not torch.equal(batch.noisy_wavs, batch.wavs)
    padding = ~length_mask(batch.num_samples, batch.wavs.size(1))
    assert not batch.noisy_wavs[padding].any()


@pytest.mark.parametrize("snr_db", [(-5.0, -5.0), (0.0, 0.0), (10.0, 10.0), (0.0, 15.0)])
def test_noise_has_the_level_that_was_asked_for(snr_db: tuple[float, float]) -> None:
    wav = np.sin(np.arange(8000, dtype=np.float32) / 7)
    speech = np.cos(np.arange(3000, dtype=np.float32) / 3)
    kinds, levels = set(), []
    for seed in range(60):
        noise = add_noise(wav, snr_db, lambda: speech, torch.Generator().manual_seed(seed)) - wav
        levels.append(10 * np.log10(np.square(wav, dtype=float).sum() / np.square(noise, dtype=float).sum()))
        repeated = np.corrcoef(noise[:3000], noise[3000:6000])[0, 1] > 0.99
        assert repeated == (np.corrcoef(noise[:3000], speech)[0, 1] > 0.99)
        kinds.add(bool(repeated))
    assert kinds == {True, False}  # another utterance, repeated to fit, and white noise
    assert snr_db[0] - 0.01 < min(levels) and max(levels) < snr_db[1] + 0.01
    if snr_db[0] < snr_db[1]:
        assert abs(np.mean(levels) - 7.5) < 4 * 15 / 12**0.5 / 60**0.5


def test_silence_neither_gets_noise_nor_is_noise() -> None:
    silence, wav = np.zeros(400, np.float32), np.ones(400, np.float32)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        assert not add_noise(silence, (0.0, 15.0), lambda: wav, generator).any()
        noisy_wavs = add_noise(wav, (0.0, 0.0), lambda: silence, torch.Generator().manual_seed(seed))
        assert noisy_wavs is wav or abs(np.mean(np.square(noisy_wavs - wav)) - 1) < 1e-5


# -------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("steps", [1, 4, 5, 8])
def test_resumes_exactly_at_any_step(dataset: SpeechDataset, steps: int, num_workers: int) -> None:
    whole = take(TrainingBatches(dataset, 8, None, 1), steps + 4)  # 5 steps an epoch
    stream = TrainingBatches(dataset, 8, None, 1, num_workers=num_workers)
    take(stream, steps)
    resumed = TrainingBatches(dataset, 8, None, 1, num_workers=num_workers)
    resumed.load_state_dict(stream.state_dict())
    assert_identical(take(resumed, 4), whole[steps:])


@pytest.mark.parametrize(
    "state", [{"epoch": 0, "position": 3}, {"epoch": 0, "position": 5}, {"epoch": 1, "position": 0}]
)
def test_resumes_from_a_state_of_the_first_version(dataset: SpeechDataset, state: dict[str, int]) -> None:
    whole = take(TrainingBatches(dataset, 8, None, 1), 8)
    resumed = TrainingBatches(dataset, 8, None, 1)
    resumed.load_state_dict(state)
    start = state["epoch"] * 5 + state["position"]
    assert_identical(take(resumed, 8 - start), whole[start:])


def test_a_state_is_plain_data(dataset: SpeechDataset, tmp_path: Path) -> None:
    stream = TrainingBatches(dataset, 8, None, 1)
    take(stream, 2)
    changed = TrainingBatches(dataset, 2, None, 2)
    changed.load_state_dict(stream.state_dict())
    take(changed, 1)
    torch.save(changed.state_dict(), tmp_path / "state")
    assert torch.load(tmp_path / "state", weights_only=True) == changed.state_dict()


@pytest.mark.parametrize("limit", [None, 3.0])
def test_resumes_with_other_processes_and_batch_sizes_in_mid_epoch(dataset: SpeechDataset, limit: float | None) -> None:
    settings = [(8, 1, 1, 2), (4, 1, 2, 1), (2, 2, 2, 2), (4, 3, 1, 1)]  # batch size, micro-batches, processes, steps
    used: list[str] = []
    state = None
    for batch_size, micro_batches, world_size, steps in settings:
        states = []
        for rank in range(world_size):
            stream = TrainingBatches(dataset, batch_size, limit, micro_batches, rank, world_size)
            if state is not None:
                stream.load_state_dict(state)
            for step in take(stream, steps):
                used += [path for micro in step for path in micro.paths]
            states.append(stream.state_dict())
        assert all(other == states[0] for other in states)  # rank 0's state is everybody's
        state = states[0]
        assert state["epoch"] == 0
        assert len(used) == len(set(used))
    assert state is not None
    last = TrainingBatches(dataset, 1, None, 1)
    last.load_state_dict(state)
    rest = itertools.takewhile(lambda _: last.epoch == 0, iter(last))
    used += [path for step in rest for micro in step for path in micro.paths]
    assert sorted(used) == sorted(u.path for u in dataset.utterances)  # the whole epoch, each once
    assert last.state_dict()["earlier"] == []


def test_the_same_step_size_resumes_the_same_steps_on_other_processes(dataset: SpeechDataset) -> None:
    whole = take(TrainingBatches(dataset, 8, None, 1), 8)
    stream = TrainingBatches(dataset, 8, None, 1)
    take(stream, 2)
    halves = [TrainingBatches(dataset, 4, None, 1, rank, 2) for rank in range(2)]
    for half in halves:
        half.load_state_dict(stream.state_dict())
    seen = [take(half, 6) for half in halves]
    for step in range(6):  # the rest of this epoch and the next one
        assert_same(whole[step + 2], [micro for half in seen for micro in half[step]])


def test_a_changed_corpus_begins_the_next_epoch(dataset: SpeechDataset, caplog: pytest.LogCaptureFixture) -> None:
    stream = TrainingBatches(dataset, 8, None, 1)
    take(stream, 2)
    fewer = SpeechDataset(dataset.utterances[:40], MODEL, MAX_SECONDS, SEED)
    resumed = TrainingBatches(fewer, 8, None, 1)
    resumed.load_state_dict(stream.state_dict())
    assert "has 40 utterances for training, it had 43" in caplog.text
    assert_identical(take(resumed, 3), take(TrainingBatches(fewer, 8, None, 1), 8)[5:])


# ----------------------------------------------------------------------------------- files, workers, threads


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_deleted_during_training_is_named(tmp_path: Path, num_workers: int) -> None:
    for index in range(6):
        soundfile.write(tmp_path / f"{index}.wav", np.arange(8000, dtype=np.int16), 16000)
    stream = iter(TrainingBatches(dataset_of(tmp_path, MODEL), 2, None, 1, num_workers=num_workers))
    [batch] = next(stream)
    for path in tmp_path.glob("*.wav"):
        if str(path) not in batch.paths:
            path.unlink()
    gone = r"^\S+/\d\.wav: no such file; it was fine when the corpus was checked: go on with -a to check anew$"
    with pytest.raises(AudioError, match=gone):
        for _ in range(20):  # what was read ahead comes first
            next(stream)


def test_cached_files_may_go(tmp_path: Path) -> None:
    for index in range(6):
        soundfile.write(tmp_path / f"{index}.wav", np.arange(8000, dtype=np.int16) + index, 16000)
    dataset = dataset_of(tmp_path, MODEL, tmp_path / "m.tsv")
    for path in tmp_path.glob("*.wav"):
        path.unlink()
    seen = rows([micro for step in take(TrainingBatches(dataset, 2, None, 1), 3) for micro in step])
    assert {Path(path).stem: round(float(wav[0]) * 32768) for path, (wav, _, _) in seen.items()} == {
        str(index): index for index in range(6)
    }


def workers() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def test_workers_live_through_epochs_and_signals_and_end_with_the_stream(dataset: SpeechDataset) -> None:
    before = workers()
    reference = take(TrainingBatches(dataset, 8, None, 1), 16)
    stream = iter(TrainingBatches(dataset, 8, None, 1, num_workers=2))
    seen = [next(stream), next(stream)]  # one of each worker, so that both are up
    mine = workers() - before
    assert len(mine) == 2
    for pid in mine:  # as Ctrl-C, timeout or a job manager signal the whole group
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    seen += itertools.islice(stream, 14)  # 3 epochs
    assert workers() - before == mine
    assert_identical(seen, reference)
    stream.close()  # type: ignore[attr-defined]
    assert not workers() & mine


def test_the_prefetching_thread_stays_a_little_ahead_and_ends() -> None:
    made, before = [], set(threading.enumerate())  # another test's thread may be about to end

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            made.append(number)
            yield number

    stream = prefetch(numbers(), ready=2)
    assert list(itertools.islice(stream, 5)) == [0, 1, 2, 3, 4]
    assert len(made) <= 5 + 2 + 1
    (thread,) = set(threading.enumerate()) - before
    assert thread.name == "prefetch"
    stream.close()
    assert not thread.is_alive()


def test_the_prefetching_thread_hands_over_ends_and_errors() -> None:
    assert list(prefetch(iter(range(7)), ready=2)) == list(range(7))
    stream = prefetch((1 // (3 - number) for number in range(9)), ready=2)
    assert [next(stream) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(stream)


# -------------------------------------------------------------------------------------------------- dev split


def test_dev_is_everything_once_and_always_the_same(dataset: SpeechDataset) -> None:
    batches = list(dev_loader(dataset, 8))
    assert len(batches) == len(dev_loader(dataset, 8)) == 6
    assert set(rows(batches)) == {u.path for u in dataset.utterances}
    assert_identical([batches], [list(dev_loader(dataset, 8, num_workers=1))])
    longest_first = [int(n) for batch in batches for n in batch.num_samples]
    assert longest_first == sorted(longest_first, reverse=True)
    assert_same(batches, list(dev_loader(dataset, 3)))
    shares = [list(dev_loader(dataset, 8, rank=rank, world_size=4)) for rank in range(4)]
    assert_same(batches, [batch for share in shares for batch in share])
