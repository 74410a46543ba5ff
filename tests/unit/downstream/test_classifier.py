"""The classifiers on top of a representation."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from naming import naming
from torch import nn

from s3prl_aalbert.downstream.classifier import ClassifierConfig, build_classifier
from s3prl_aalbert.model.config import ConfigError, from_dict


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_parameters_by_hand(hidden_layers: int) -> None:
    sizes = [5, *[7] * hidden_layers, 3]
    expected = sum(a * b + b for a, b in pairwise(sizes))
    for batch_norm in (False, True):  # statistics are not parameters
        model = build_classifier(5, 3, hidden_layers, 7, batch_norm)
        assert sum(p.numel() for p in model.parameters()) == expected


def test_batch_norm_standardises_and_stays_linear() -> None:
    torch.manual_seed(0)
    model = build_classifier(4, 3, 0, batch_norm=True)
    inputs = torch.randn(64, 4) * torch.tensor([1e-2, 1.0, 5.0, 100.0]) + 3
    scaled = model[0](inputs)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    # The variance of 1e-4 is damped by BatchNorm's eps of 1e-5.
    torch.testing.assert_close(scaled.var(0, unbiased=False), torch.tensor([0.91, 1, 1, 1]), atol=0.05, rtol=0)
    reference = nn.BatchNorm1d(4, affine=False)
    reference(inputs)
    for name, value in reference.state_dict().items():
        if name != "num_batches_tracked":
            torch.testing.assert_close(model[0].state_dict()[name], value)
    one = model(inputs[:1])  # a batch of one in training has no variance of its own
    assert torch.equal(one, model.eval()(inputs[:1]))
    a, b, zero = inputs[:1], inputs[1:2], torch.zeros(1, 4)
    torch.testing.assert_close(model(a + b), model(a) + model(b) - model(zero), rtol=1e-4, atol=1e-4)


def test_dropout_scales_what_it_keeps_and_rests_outside_training() -> None:
    torch.manual_seed(0)
    model = build_classifier(4, 3, 1, 2000, dropout=0.25)
    assert [type(part) for part in model] == [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    inputs = torch.ones(5000, 4)
    heard = model[0](inputs)
    assert (heard == 0).float().mean() == pytest.approx(0.25, abs=0.02)
    assert heard.max() == pytest.approx(1 / 0.75)
    plain = build_classifier(4, 3, 1, 2000)
    plain.load_state_dict(dict(zip(plain.state_dict(), model.state_dict().values(), strict=True)))
    assert torch.equal(model.eval()(inputs[:2]), plain(inputs[:2]))


def test_dropout_of_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match=naming("modelrc.dropout", "1.0")):
        from_dict(ClassifierConfig, {"dropout": 1.0}, "modelrc")


def test_a_misspelt_classifier_is_corrected() -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        from_dict(ClassifierConfig, {"classifier": "2-hiden"}, "modelrc")
