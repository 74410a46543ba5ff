"""What a sweep says of its runs before they are run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from s3prl_aalbert.cli import main
from s3prl_aalbert.experiments import plan
from s3prl_aalbert.experiments.grid import SweepRun
from s3prl_aalbert.experiments.plan import UTTERANCE_SECONDS, describe_run, table
from s3prl_aalbert.model.aalbert import AalbertModel
from s3prl_aalbert.model.config import ModelConfig, load_model_config
from s3prl_aalbert.model.macs import FEATURES, encoder_macs, module_macs

# fmt: off
PRETRAIN = SweepRun("pretrain/mine", Path("out/mine"), (
    "pretrain", "-g", "mini", "-c", "pretrain_default", "--speech", "one", "two", "-p", "out/mine", "-a",
    "-o", "config.optimizer.lr=0.002,,config.runner.total_steps=70,,model.transformer.num_hidden_layers=2",
))
TASK = SweepRun("phone/mine", Path("out/phone"), (
    "downstream", "-m", "train", "-d", "aalbert_phone", "-c", "aalbert_phone_timit", "-u", "aalbert_local",
    "-k", "out/mine", "-f", "-o", "config.runner.total_steps=9,,config.downstream_expert.datarc.audio='there'",
), needs="pretrain/mine")
# fmt: on


def operations(config: ModelConfig, seconds: float) -> float:
    """Count those of one utterance forward, with torch's own counter."""
    samples = int(seconds * 16000)
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):  # counted as products
        AalbertModel(config)(torch.randn(1, samples), torch.tensor([samples]))
    return counter.get_total_flops()


def mini(layers: int) -> ModelConfig:
    config = load_model_config("mini")
    object.__setattr__(config.transformer, "num_hidden_layers", layers)
    return config


def test_a_pretraining() -> None:
    facts = describe_run(PRETRAIN, [PRETRAIN])
    assert facts[:5] == ("mini", "one two", 0.002, 32, 70)
    assert facts.flop == pytest.approx(3 * 32 * 70 * operations(mini(2), UTTERANCE_SECONDS), rel=0.02)


def test_a_task_that_fine_tunes_a_model_of_the_sweep() -> None:
    facts = describe_run(TASK, [PRETRAIN, TASK])
    assert (facts.model, facts.data, facts.steps) == ("pretrain/mine", "there", 9)
    expected = 3 * (facts.batch or 0) * 9 * operations(mini(2), UTTERANCE_SECONDS)
    assert facts.flop == pytest.approx(expected, rel=0.02)
    frozen = describe_run(
        TASK.__class__(TASK.name, TASK.expdir, tuple(a for a in TASK.argv if a != "-f"), TASK.needs), [PRETRAIN]
    )
    assert frozen.flop == pytest.approx(expected / 3, rel=0.02)


def test_a_task_with_a_state_for_every_frame() -> None:
    """It costs as many passes as a token has frames; the features are computed once."""
    argv = tuple("aalbert_every_frame_local" if part == "aalbert_local" else part for part in TASK.argv)
    run = SweepRun(TASK.name, TASK.expdir, argv, TASK.needs)
    ours, single = describe_run(run, [PRETRAIN, run]), describe_run(TASK, [PRETRAIN, TASK])
    samples = int(UTTERANCE_SECONDS * 16000)
    config = mini(2)
    passes = config.transformer.downsample_rate * encoder_macs(config, samples)
    features = module_macs(config, samples)[FEATURES]
    assert (ours.flop or 0) / (single.flop or 1) == pytest.approx(
        (passes + features) / (encoder_macs(config, samples) + features)
    )


def test_an_upstream_that_is_not_ours_has_no_figure() -> None:
    argv = tuple(
        "hubert_base" if part == "aalbert_local" else part for part in TASK.argv if part not in ("-k", "out/mine")
    )
    assert describe_run(SweepRun("phone/hubert", Path("out"), argv), []).flop is None


def test_the_table_ends_with_the_sum() -> None:
    rows = table([PRETRAIN, PRETRAIN], [PRETRAIN], rate=1e12)
    flop = describe_run(PRETRAIN, [PRETRAIN]).flop or 0
    assert len({len(row) for row in rows}) == 1
    assert float(rows[-1][-2]) == pytest.approx(2 * flop / 1e15, rel=0.01)
    assert float(rows[-1][-1]) == pytest.approx(2 * flop / 0.4e12 / 3600, rel=0.1)


@pytest.mark.parametrize("native", [True, False])
def test_bf16_counts_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    rates = {torch.float32: 1e12, torch.bfloat16: 3e12}
    measured = []
    monkeypatch.setattr(plan, "native_bf16", lambda device: native)
    monkeypatch.setattr(plan, "_rate", lambda device, dtype: measured.append(dtype) or rates[dtype])
    assert plan.machine_rate() == (3e12 if native else 1e12)
    assert (torch.bfloat16 in measured) == native


def test_the_plan_stays_out_of_the_commands(capsys: pytest.CaptureFixture) -> None:
    assert main(["sweep", "--preset", "small", "--data", "data", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines and all(line.startswith("aalbert sweep ") for line in lines)
    assert f"{len(lines)} runs" in err
