"""Probes do not influence one another, whatever else the run trains."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from naming import naming

from s3prl_aalbert.cli import main
from s3prl_aalbert.downstream.probe.expert import DownstreamExpert, best_of_probe
from s3prl_aalbert.downstream.probe.table import format_probes
from s3prl_aalbert.downstream.result_tables import ProbeResult, read_probes
from s3prl_aalbert.downstream.results import Evaluation
from s3prl_aalbert.errors import EXIT_STOPPED, AalbertError
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.toolkit import launch

DIMS = [6, 6, 4]
RATE = 480


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("probe") / "speech"
    return synthesise_corpus(root, num_speakers=4, utterances_per_speaker=10, seconds=(0.5, 0.8), seed=3)


class NoLogger:
    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        pass


def expert_of(corpus: Path, expdir: Path, tasks: list[str], clipping: float = 1e9, **modelrc: Any) -> DownstreamExpert:
    datarc = {
        "train_batch_size": 4,
        "phone": {"audio": str(corpus), "phone_set": "39"},
        "speaker": {"audio": str(corpus)},
    }
    config = {"datarc": datarc, "modelrc": {"tasks": tasks, "hidden_size": 8, "layer_dims": DIMS, **modelrc}}
    return DownstreamExpert(sum(DIMS), RATE, config, str(expdir), runner={"gradient_clipping": clipping}, seed=5)


def represent(wav: Any) -> torch.Tensor:
    """Stand in for an upstream: a fixed function of the waveform, (tokens, sum of DIMS)."""
    samples = torch.as_tensor(wav)[: len(wav) // RATE * RATE].reshape(-1, RATE)
    weights = torch.randn(RATE, sum(DIMS), generator=torch.Generator().manual_seed(0))
    return torch.tanh(20 * samples @ weights)


def train(expert: DownstreamExpert, steps: int = 12) -> None:
    """Train as S3PRL's runner does: one optimiser over everything, its gradient norm clipped."""
    optimizer = torch.optim.AdamW(expert.parameters(), lr=1e-2)
    step = epoch = 0
    while step < steps:
        for wavs, *others in expert.get_dataloader("train", epoch=epoch):
            if step == steps:
                break
            loss = expert("train", [represent(w) for w in wavs], *others, records=defaultdict(list))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(expert.parameters()), 1e9)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        epoch += 1


def evaluate(expert: DownstreamExpert, step: int) -> None:
    for split in ("dev", "test"):
        records: dict[str, list] = defaultdict(list)
        with torch.no_grad():
            for wavs, *others in expert.get_dataloader(split):
                expert(split, [represent(w) for w in wavs], *others, records=records)
        expert.log_records(split, records=records, logger=NoLogger(), global_step=step)


def rows(expdir: Path) -> dict[str, dict[str, str]]:
    with (expdir / "probes.csv").open() as file:
        return {f"{r['task']}/layer{r['layer']}/{r['classifier']}": r for r in csv.DictReader(file)}


@pytest.fixture(scope="module")
def joint(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[DownstreamExpert, Path]:
    expdir = tmp_path_factory.mktemp("joint")
    expert = expert_of(corpus, expdir, ["phone", "speaker"])
    train(expert)
    evaluate(expert, 12)
    return expert, expdir


@pytest.mark.parametrize("name", ["phone/layer2/2-hidden", "speaker/layer0/linear"])
def test_a_probe_equals_the_same_probe_trained_alone(
    corpus: Path, tmp_path: Path, joint: tuple[DownstreamExpert, Path], name: str
) -> None:
    alone = expert_of(corpus, tmp_path, [name.split("/")[0]], only=[name])
    train(alone)
    evaluate(alone, 12)
    (weights,) = alone.models.values()
    together = joint[0].models[name.replace("/", "_")]
    for ours, theirs in zip(weights.parameters(), together.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert rows(tmp_path)[name] == rows(joint[1])[name]


def test_every_layer_classifier_and_task_is_probed(joint: tuple[DownstreamExpert, Path]) -> None:
    table = rows(joint[1])
    expected = {
        f"{t}/layer{i}/{c}" for t in ("phone", "speaker") for i in range(3) for c in ("linear", "1-hidden", "2-hidden")
    }
    assert set(table) == expected
    assert int(table["phone/layer2/linear"]["params"]) % (DIMS[2] + 1) == 0, "layer 2 is 4 wide"
    printed = format_probes(read_probes(joint[1]))
    assert "phone" in printed and "speaker" in printed and len(printed.splitlines()) == 2 * (3 + 3)


def test_probes_have_the_numbers_of_their_layers(
    corpus: Path, tmp_path: Path, joint: tuple[DownstreamExpert, Path]
) -> None:
    """Without layer 0, a probe is the same as beside it; DIMS ends in the 4 of layer 2."""
    expert = expert_of(corpus, tmp_path, ["speaker"], first_layer=1, layer_dims=[12, 4], classifiers=["linear"])
    assert list(expert.models) == ["speaker_layer1_linear", "speaker_layer2_linear"]
    train(expert)
    evaluate(expert, 12)
    found = rows(tmp_path)
    assert set(found) == {"speaker/layer1/linear", "speaker/layer2/linear"}
    assert found["speaker/layer2/linear"] == rows(joint[1])["speaker/layer2/linear"]


def test_a_layer_without_one_of_the_classifiers_has_a_gap() -> None:
    rows = [("phone", 0, "linear", 0.5, 0.25, 10, 5), ("phone", 1, "2-hidden", 0.5, 0.9, 10, 5)]
    lines = format_probes([ProbeResult(*row) for row in rows]).splitlines()
    assert [line.split() for line in lines[-3:]] == [["layer", "linear", "2-hidden"], ["0", "25.00"], ["1", "90.00"]]
    assert lines[-1].index("90.00") > lines[-2].index("25.00")


def test_training_learns_something(corpus: Path, joint: tuple[DownstreamExpert, Path]) -> None:
    trained = rows(joint[1])["speaker/layer0/2-hidden"]
    assert float(trained["dev_acc"]) > 0.25, "four speakers"


def test_clipping_would_couple_the_probes_and_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(AalbertError, match="gradient_clipping"):
        expert_of(corpus, tmp_path, ["phone"], clipping=1.0)


def test_best_step_by_dev_and_test_of_that_step() -> None:
    history = [
        Evaluation(step, split, {"p/acc": value})
        for step, split, value in [
            (1, "dev", 0.5),
            (1, "test", 0.1),
            (2, "dev", 0.7),
            (2, "test", 0.2),
            (3, "dev", 0.7),
            (3, "test", 0.9),
        ]
    ]
    assert best_of_probe(history, "p") == (2, 0.7, 0.2)
    assert best_of_probe(history, "q") is None


@pytest.mark.parametrize(
    ("modelrc", "message"),
    [
        ({"only": ["phone/layer9/linear"]}, "layer9"),
        ({"classifiers": ["liner"]}, 'did you mean "linear"'),
        ({"layer_dims": [1]}, "sum to 1"),
        ({"first_layer": -1}, "first_layer is -1"),
    ],
)
def test_nonsense_is_refused(corpus: Path, tmp_path: Path, modelrc: dict[str, Any], message: str) -> None:
    with pytest.raises(AalbertError, match=message):
        expert_of(corpus, tmp_path, ["phone"], **modelrc)


@pytest.mark.parametrize("task", ["phone", "speaker"])
def test_keys_without_effect_in_one_task_are_refused(corpus: Path, tmp_path: Path, task: str) -> None:
    own = {"train_batch_size": 2, **({"max_seconds": 1.0} if task == "speaker" else {})}
    datarc = {"audio": str(corpus), **own}
    config = {"datarc": {task: datarc}, "modelrc": {"tasks": [task], "hidden_size": 8, "layer_dims": DIMS}}
    with pytest.raises(AalbertError, match=naming(f"datarc.{task}", *own)):
        DownstreamExpert(sum(DIMS), RATE, config, str(tmp_path), runner={"gradient_clipping": 1e9}, seed=5)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("-u fbank -n x", "-m train -d aalbert_probe -p result/downstream/x -u fbank"),
        (
            "-u aalbert_local -k m -g c --task speaker -c own.yaml -p x --seed 3 --device cpu -o config.a=1",
            "-m train -d aalbert_probe -p x -u aalbert_local -k m -g c -c own.yaml --device cpu --seed 3 "
            "-o config.downstream_expert.modelrc.tasks=['speaker'],,config.a=1",
        ),
        ("-a -n x", "-m train -d aalbert_probe -p result/downstream/x -a"),
    ],
)
def test_probing_is_a_task_of_downstream(
    typed: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its options, and with the exit code of a run that a signal has ended."""
    given: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run", lambda argv: given.append(argv) or EXIT_STOPPED)
    with pytest.raises(SystemExit) as end:
        main(["probe", *typed.split()])
    assert end.value.code == EXIT_STOPPED
    assert given == [expected.split()]
