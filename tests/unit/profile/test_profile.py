"""Parameters and multiply-accumulates: from the configuration, against torch's own counter and by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from s3prl_aalbert.checkpoint.published import packaged_folder
from s3prl_aalbert.cli import main
from s3prl_aalbert.commands.profile import _of_upstream
from s3prl_aalbert.model import macs
from s3prl_aalbert.model.aalbert import AalbertModel, count_parameters
from s3prl_aalbert.model.config import ModelConfig, find_config, load_model_config
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.model.sub_network import Architecture
from s3prl_aalbert.profile.costs import (
    SUPERB_SAMPLES,
    count_macs,
    disjoint_modules,
    profile_config,
    profile_upstream,
    superb_cost,
    utterance_macs,
)
from s3prl_aalbert.profile.speed import measure
from s3prl_aalbert.upstream.expert import UpstreamExpert

PRESETS = {
    "aalbert_3l": (7_458_816, 0.80),
    "aalbert_6l": (7_458_816, 1.58),
    "aalbert_12l": (7_458_816, 3.15),
    "mockingjay_6l": (42_898_176, 1.58),
    "mockingjay_12l": (85_425_408, 3.15),
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_papers_models_cost_what_the_specification_says(name: str) -> None:
    parameters, giga = PRESETS[name]
    found = profile_config(name, load_model_config(name))
    assert found.parameters == parameters
    assert found.macs / 1e9 == pytest.approx(giga, rel=0.02)
    assert sum(found.modules.values()) == pytest.approx(found.macs)


OPTIONS = {
    "plain": {},
    "unshared": {"share_layer": False},
    "reuse": {"reuse_pattern": (0, 1)},
    "convolutional positions": {"positions": "convolutional", "conv_position_group_size": 8},
    "rotary positions": {"positions": "rotary"},
    "factorised": {"embedding_size": 5},
    "heads of their own size": {"attention_head_size": 7},
}


def counted(config: ModelConfig, seconds: float, arch: Architecture | None = None) -> dict[str, int]:
    """The MACs of one utterance as torch's counter sees them."""
    num_samples = round(seconds * 16000)
    return count_macs(AalbertModel(config), torch.randn(1, num_samples), torch.tensor([num_samples]), arch)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("seconds", [0.4, 2.0])
def test_the_analytic_count_is_torchs(options: dict, seconds: float) -> None:
    config = load_model_config("debug")
    config = replace(config, transformer=replace(config.transformer, **options))
    counts = counted(config, seconds)
    own = macs.module_macs(config, round(seconds * 16000))
    assert counts["AalbertModel.embedding"] == own[macs.EMBEDDING]
    layers = own[macs.PROJECTIONS] + own[macs.MAPS] + own[macs.FEED_FORWARD]
    assert counts["AalbertModel.encoder"] == layers


def test_sub_networks_and_reuse_cost_less() -> None:
    config = load_model_config("debug")
    transformer = config.transformer
    arch = Architecture(transformer.hidden_size // 2, (1,), (transformer.intermediate_size // 4,))
    assert counted(config, 1.0, arch)["Global"] - counted(config, 1.0)["Global"] < 0
    counts = counted(config, 1.0, arch)
    own = macs.encoder_macs(config, 16000, arch)
    assert counts["AalbertModel.embedding"] + counts["AalbertModel.encoder"] == own


def test_a_part_of_a_group_of_channels_costs_a_whole_one() -> None:
    """The last group of a sub-network's positions is filled with zeros."""
    config = load_model_config("debug")
    options = {"positions": "convolutional", "conv_position_group_size": 16}
    config = replace(config, transformer=replace(config.transformer, **options))
    transformer = config.transformer
    arch = Architecture(24, (1,), (transformer.intermediate_size,))
    assert arch.hidden_size % 16 == 8 and transformer.hidden_size > 24
    assert counted(config, 1.0, arch)["AalbertModel.embedding"] == macs.module_macs(config, 16000, arch)[macs.EMBEDDING]


@pytest.mark.parametrize("front_end", ["aalbert", "s3prl", "librosa"])
def test_the_features_of_every_front_end_are_counted(front_end: str) -> None:
    config = load_model_config("debug")
    config = replace(config, audio=replace(config.audio, front_end=front_end))
    assert counted(config, 1.0)["AalbertModel.acoustics"] == macs.module_macs(config, 16000)[macs.FEATURES]


@pytest.mark.parametrize("name", ["aalbert_units", "aalbert_tiny", "aalbert_3l"])
def test_all_heads_of_a_task_are_counted(name: str) -> None:
    config = load_model_config(name)
    assert profile_config(name, config).parameters_with_head == count_parameters(MaskedPrediction(config))


def test_counting_by_hand() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    counts = count_macs(model, torch.randn(3, 4))
    assert counts["Global"] == 3 * (4 * 8 + 8 * 2)
    assert sum(disjoint_modules(counts).values()) == counts["Global"]


class Upstream(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(160, 10)

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        return {"hidden_states": [self.project(torch.stack(wavs).unfold(1, 160, 160))]}


def test_any_upstream_is_counted_while_it_runs() -> None:
    found = profile_upstream("toy", Upstream(), seconds=2.0, superb=True)
    assert found.parameters == 160 * 10 + 10 and found.parameters_with_head is None
    assert found.macs == 100 * 1600
    assert found.superb is not None and found.superb.total == sum(n // 160 * 1600 for n in SUPERB_SAMPLES)


def test_an_upstream_without_products_costs_nothing() -> None:
    class Nothing(nn.Module):
        def forward(self, wavs: list[torch.Tensor]) -> list[torch.Tensor]:
            return wavs

    found = profile_upstream("nothing", Nothing(), 1.0)
    assert found.macs == 0 and found.modules == {"other": 0}


def test_superbs_numbers_by_hand() -> None:
    cost = superb_cost([n * (2 if i == 0 else 1) for i, n in enumerate(SUPERB_SAMPLES)])
    assert cost.total == sum(SUPERB_SAMPLES) + SUPERB_SAMPLES[0]
    assert (cost.least, cost.most) == (16000, 32000)


def test_the_command_prints_a_table_of_the_papers_models(capsys: pytest.CaptureFixture) -> None:
    assert main(["profile"]) == 0
    shown = capsys.readouterr().out
    for name, (parameters, _) in PRESETS.items():
        assert any(name in line and f"{parameters:,}" in line for line in shown.splitlines()), name
    assert main(["profile", "-u", "fbank", "aalbert_6l", "-k", "x"]) == 2
    assert "belongs to one upstream" in capsys.readouterr().err


def test_a_sub_network_of_a_supernet(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arch = tmp_path / "small.yaml"
    arch.write_text("hidden_size: 64\nnum_hidden_layers: 2\nnum_attention_heads: 1\nintermediate_size: 256\n")
    supernet = str(packaged_folder("aalbert_tiny"))
    assert main(["profile", "-u", "aalbert_local", "-k", supernet, "-g", str(arch)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "96,832" in line]
    assert "aalbert_tiny small" in row


def test_every_upstream_of_ours_is_counted_from_its_configuration(capsys: pytest.CaptureFixture) -> None:
    """But one at every frame is run."""
    assert main(["profile", "-u", "aalbert", "aalbert_units", "aalbert_tiny", "aalbert_3l"]) == 0
    shown = capsys.readouterr().out
    assert "module of" not in shown and shown.count("| aalbert") == 2 * 4
    expected = profile_config("", load_model_config(str(packaged_folder("aalbert_units") / "config.yaml")))
    assert expected.superb is not None and f"{expected.superb.total / 1e9:.1f}" in shown
    assert _of_upstream("aalbert_every_frame_local", "aalbert_units").config is None
    assert main(["profile", "-u", "aalbert", "-k", "aalbert_tiny"]) == 2
    assert "takes no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("num_samples", [160, 20000, 31999])
def test_a_state_for_every_frame_takes_a_pass_for_each_frame_of_a_token(num_samples: int) -> None:
    upstream = UpstreamExpert(model_config="debug", every_frame=True)
    counts = count_macs(upstream, [torch.randn(num_samples)])
    found = utterance_macs(load_model_config("debug"), num_samples, every_frame=True)
    assert sum(found.values()) == counts["Global"]


def test_models_of_the_same_name_are_all_measured(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files = [tmp_path / folder / "model.yaml" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(find_config("debug", "upstream_configs").read_text())
    argv = ["profile", "-g", *map(str, files), "--measure", "--seconds", "0.5", "--repeats", "1"]
    assert main(argv) == 0
    speeds = capsys.readouterr().out.split("RTF 0.5 s")[1]
    assert sum(line.strip().startswith("| model ") or "model  " in line for line in speeds.splitlines()) == 2


def test_measuring_gives_time_and_memory(capsys: pytest.CaptureFixture) -> None:
    assert main(["profile", "-g", "debug", "--measure", "--seconds", "1", "--repeats", "2"]) == 0
    shown = capsys.readouterr().out
    assert "RTF 1 s" in shown and "Measured on" in shown


def test_the_memory_of_an_upstream_is_without_the_toolkits() -> None:
    subject = _of_upstream("aalbert_tiny", None)
    assert subject.preload, "built by S3PRL's hub, whose import takes 300 MiB"
    speed = measure(subject.build, 1.0, "cpu", 1, 1, subject.preload)
    assert speed.peak_mib is not None and speed.peak_mib < 150
