"""Masking distillation against a worked example, alignment of strides, and teachers of any kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from naming import mentions, naming
from torch import Tensor, nn

from s3prl_aalbert.compress.distill_config import DistillConfig
from s3prl_aalbert.compress.distillation import MaskedDistillation, align, distance
from s3prl_aalbert.compress.space import SearchSpace
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.config import ConfigError, ModelConfig, from_dict, load_model_config
from s3prl_aalbert.model.masking import MaskPlan, apply_mask
from s3prl_aalbert.model.objective import Speech
from s3prl_aalbert.model.sub_network import Architecture
from s3prl_aalbert.pretrain.config import PretrainConfig
from s3prl_aalbert.pretrain.objectives import build_objective


class LoudnessTeacher:
    """Two layers of width 2 that anyone can compute: mean absolute sample of each 320, and ten times that."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        self.calls.append([len(wav) for wav in wavs])
        rows = [wav[: len(wav) // 320 * 320].abs().view(-1, 320).mean(1) for wav in wavs]
        states = nn.utils.rnn.pad_sequence(rows, batch_first=True).unsqueeze(-1).repeat(1, 1, 2)
        return {"hidden_states": [torch.zeros_like(states), states, 10 * states]}

    def get_downsample_rates(self, key: str) -> int:
        return 320

    def to(self, device: torch.device) -> LoudnessTeacher:
        return self


@pytest.fixture
def config() -> ModelConfig:
    return load_model_config("debug")


def batch() -> tuple[Tensor, Tensor, MaskPlan]:
    torch.manual_seed(1)
    wavs = torch.randn(2, 480 * 6)
    lengths = torch.tensor([480 * 6, 480 * 4])
    wavs[1, lengths[1] :] = 0
    selected = torch.zeros(2, 6, dtype=torch.bool)
    selected[0, 2], selected[1, 0] = True, True
    source = torch.arange(6).expand(2, 6).clone()
    source[selected] = -1
    return wavs, lengths, MaskPlan(selected, source)


@pytest.mark.parametrize(("masked", "unmasked"), [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 2.0)])
def test_the_loss_is_that_of_the_paper(config: ModelConfig, masked: float, unmasked: float) -> None:
    """Equation 3, token by token: masked ones against the clean teacher, the others against the masked one."""
    settings = DistillConfig(
        student_layers=(1, 2), teacher_layers=(1, 2), masked_weight=masked, unmasked_weight=unmasked
    )
    objective = MaskedDistillation(config, settings, LoudnessTeacher()).eval()
    wavs, lengths, plan = batch()
    loss = objective(Speech(wavs, lengths, plan))

    features = objective.model.acoustics(wavs, lengths)
    student = objective.model.encode(apply_mask(features.tokens, plan), features.lengths)
    expected = 0.0
    for row, num_tokens in enumerate((6, 4)):
        clean = wavs[row, : lengths[row]].double().numpy()
        hidden = plan.selected[row].numpy()
        heard = clean.copy()
        for token in np.flatnonzero(hidden):
            heard[token * 480 : (token + 1) * 480] = 0
        for token in range(num_tokens):
            speech, weight = (clean, masked) if hidden[token] else (heard, unmasked)
            loudness = np.abs(speech[: len(speech) // 320 * 320]).reshape(-1, 320).mean(1)
            centres = (np.arange(len(loudness)) + 0.5) * 320
            target = np.interp((token + 0.5) * 480, centres, loudness)
            for layer, scale, layer_weight in ((1, 1, 0.1), (2, 10, 1.0)):
                projection = objective.projections[layer - 1]
                predicted = projection(student[layer][row, token]).double().detach().numpy()
                expected += weight * layer_weight * np.mean((predicted - scale * target) ** 2)
    assert loss.total.item() == pytest.approx(expected, rel=1e-4)
    assert loss.weight.item() == 10 == objective.weight(lengths, selected_frames=-1)


def test_losses_by_hand() -> None:
    predicted, target = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    assert distance(predicted, target, "mse").item() == pytest.approx(1.0)
    assert distance(predicted, target, "l1").item() == pytest.approx(1.0)
    cosine = 24 / 25
    assert distance(predicted, target, "l1_cosine").item() == pytest.approx(1 + np.log1p(np.exp(-cosine)))


@pytest.mark.parametrize("rate", [160, 320, 480, 600])
def test_strides_are_aligned_on_centres(rate: int) -> None:
    """A state that tells its own centre is read at the student's centres, but not beyond the first and last."""
    centres = (torch.arange(4800 // rate) + 0.5) * rate
    read = align(centres.view(1, -1, 1), rate, 480, 10, torch.tensor([4800]))[0, :, 0]
    expected = ((torch.arange(10) + 0.5) * 480).clamp(centres[0], centres[-1])
    torch.testing.assert_close(read, expected, rtol=0, atol=1e-3)


def test_a_short_utterance_is_not_aligned_with_its_padding() -> None:
    """Samples of 320 from a teacher that leaves out incomplete ones: row 1 has 4 states of its own, then padding."""
    wavs, lengths = torch.ones(2, 3200), torch.tensor([3200, 1500])
    wavs[1, 1500:] = 0
    states = LoudnessTeacher()([wav[:n] for wav, n in zip(wavs, lengths.tolist(), strict=True)])["hidden_states"][1]
    assert states[1, :, 0].tolist() == [1.0] * 4 + [0.0] * 6
    read = align(states, 320, 480, 7, lengths)
    assert torch.equal(read[1, : -(-1500 // 480)], torch.ones(4, 2))
    assert torch.equal(read[0], torch.ones(7, 2))


def test_one_clean_teacher_for_all_tokens(config: ModelConfig) -> None:
    """LightHuBERT's: the teacher runs once, and a masked batch costs what the same tokens cost unmasked."""
    teacher = LoudnessTeacher()
    settings = DistillConfig(unmasked_teacher="clean", masked_weight=2, unmasked_weight=2)
    objective = MaskedDistillation(config, settings, teacher).eval()
    wavs, lengths, plan = batch()
    teacher.calls.clear()
    loss = objective(Speech(wavs, lengths, plan))
    assert teacher.calls == [[2880, 1920]]
    features = objective.model.acoustics(wavs, lengths)
    student = objective.model.encode(apply_mask(features.tokens, plan), features.lengths)[-1]
    target = align(teacher([wavs[0], wavs[1, :1920]])["hidden_states"][2], 320, 480, 6, lengths)
    real = torch.arange(6) < torch.tensor([[6], [4]])
    expected = 2 * (objective.projections[0](student) - target)[real].square().mean(-1).sum()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_average_of_the_top_layers() -> None:
    settings = DistillConfig(average_top_k=2, loss="l1")
    objective = MaskedDistillation(load_model_config("debug"), settings, LoudnessTeacher())
    states = [torch.full((1, 1, 1), value) for value in (1.0, 3.0, 8.0)]
    assert objective._target(states, None).item() == 5.5
    assert len(objective.projections) == 1


def test_no_masked_teacher_without_its_term_and_padding_never_reaches_it(config: ModelConfig) -> None:
    teacher = LoudnessTeacher()
    objective = MaskedDistillation(config, DistillConfig(unmasked_weight=0), teacher)
    teacher.calls.clear()
    objective(Speech(*batch()))
    assert teacher.calls == [[2880, 1920]]


def test_padding_is_in_neither_region(config: ModelConfig) -> None:
    objective = MaskedDistillation(config, DistillConfig(), LoudnessTeacher()).eval()
    wavs, lengths, plan = batch()
    alone = objective(Speech(wavs[1:, :1920], lengths[1:], MaskPlan(plan.selected[1:, :4], plan.source[1:, :4])))
    first = objective(Speech(wavs[:1], lengths[:1], MaskPlan(plan.selected[:1], plan.source[:1])))
    together = objective(Speech(wavs, lengths, plan))
    assert together.total.item() == pytest.approx(alone.total.item() + first.total.item(), rel=1e-5)


def test_the_teacher_is_neither_trained_nor_saved(config: ModelConfig) -> None:
    teacher = nn.Linear(1, 1)
    teacher.__dict__.update(get_downsample_rates=lambda key: 320)
    teacher.forward = lambda wavs: {"hidden_states": [torch.zeros(len(wavs), 50, 3)] * 2}  # type: ignore[method-assign]
    objective = MaskedDistillation(config, DistillConfig(), teacher)  # type: ignore[arg-type]
    owners = {name.split(".")[0] for name in objective.state_dict()}
    assert owners == {"model", "projections"}
    assert all(parameter is not teacher.weight for parameter in objective.parameters())


def test_sub_networks_of_the_student_learn_too(config: ModelConfig) -> None:
    objective = MaskedDistillation(config, DistillConfig(), LoudnessTeacher())
    size = config.transformer.hidden_size // 2
    arch = Architecture(size, (1,), (config.transformer.intermediate_size,))
    objective(Speech(*batch()), arch).total.backward()
    gradient = objective.projections[0].weight.grad
    assert gradient is not None and gradient[:, :size].abs().sum() > 0 and gradient[:, size:].abs().sum() == 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss": "mae"}, 'loss is "mae"'),
        ({"unmasked_teacher": "clear"}, 'unmasked_teacher is "clear" .did you mean "clean"'),
        ({"student_layers": [1, 2]}, "student_layers.*teacher_layers"),
        ({"layer_weights": [1.0, 2.0]}, "layer_weights.*2.*1"),
        ({"masked_weight": 0, "unmasked_weight": 0}, "masked_weight.*unmasked_weight.*zero"),
        ({"masked_weight": 0, "mask_student": False}, r"masked_weight is 0.*mask_student"),
        ({"average_top_k": 2, "student_layers": [1], "teacher_layers": [1]}, "average_top_k to null"),
    ],
)
def test_what_cannot_be_distilled_is_refused(keys: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(DistillConfig, keys)


@pytest.mark.parametrize("settings", [DistillConfig(student_layers=(9,)), DistillConfig(teacher_layers=(3,))])
def test_layers_that_do_not_exist_are_named(config: ModelConfig, settings: DistillConfig) -> None:
    with pytest.raises(AalbertError, match="layers 0 to"):
        MaskedDistillation(replace(config), settings, LoudnessTeacher())


def test_no_more_layers_are_averaged_than_the_teacher_has(
    config: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    states = [torch.full((1, 1, 1), float(value)) for value in (100, 2, 4)]  # the first: the input embedding
    averages = []
    for top_k in (1, 2, 8):
        objective = MaskedDistillation(config, DistillConfig(average_top_k=top_k), LoudnessTeacher())
        averages.append(objective._target(states, None).item())
    assert averages == [4, 3, 3]
    (record,) = caplog.records
    assert mentions(record.getMessage(), "distill.average_top_k", 8, 2)


@pytest.mark.parametrize("layer", [2, -3])
def test_a_layer_that_the_smallest_sub_network_lacks_is_refused(config: ModelConfig, layer: int) -> None:
    distill = DistillConfig(student_layers=(layer,))
    built = PretrainConfig(
        distill=distill, supernet=SearchSpace(num_hidden_layers=(1, config.transformer.num_hidden_layers))
    )
    with pytest.raises(AalbertError, match=naming("student_layers", layer, "0 to 1")):
        build_objective(config, built, LoudnessTeacher())
    build_objective(config, replace(built, distill=DistillConfig(student_layers=(-2,))), LoudnessTeacher())
