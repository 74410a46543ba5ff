"""``runner.precision``: what computes in bfloat16, and what stays in float32."""

import logging

import pytest
import torch
from naming import naming
from toolkit_runner import new_runner

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit import precision

WAVS = [torch.randn(16000, generator=torch.Generator().manual_seed(0)), torch.ones(4800).cumsum(0).sin()]


def build_upstream(trainable=False, **runner_section):
    """Build ``-u aalbert_tiny`` as S3PRL's runner does."""
    return new_runner(trainable=trainable, **runner_section)._get_upstream().model


def types_of_products(model):
    """Return the types that the results of the model's linear layers have, and its hidden states."""
    found = []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, __, result: found.append(result.dtype))
    states = model(WAVS)
    return set(found), states


def test_bf16_is_of_products_alone_and_close_to_fp32():
    products, half = types_of_products(build_upstream(precision="bf16"))
    assert products == {torch.bfloat16}
    products, single = types_of_products(build_upstream())
    assert products == {torch.float32}
    assert set(half) == set(single)
    for found, wanted in zip(half["hidden_states"], single["hidden_states"], strict=True):
        assert found.dtype == torch.float32
        error = (found - wanted).norm() / wanted.norm()
        assert 1e-5 < error < 2e-2, error  # bfloat16 keeps 8 bits


def test_bf16_fine_tunes_weights_in_fp32():
    model = build_upstream(trainable=True, precision="bf16")
    model(WAVS)["last_hidden_state"].square().mean().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients and all(gradient.dtype == torch.float32 for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients)


def test_bf16_hidden_states_from_hooks_are_in_fp32_too():
    """S3PRL adds what its hooks saw, as of HuBERT and wav2vec 2.0, after ``forward``."""
    from s3prl.upstream.interfaces import UpstreamBase

    from s3prl_aalbert.toolkit.precision import autocast

    class Hooked(UpstreamBase):
        def __init__(self, postprocess):
            super().__init__(hooks=[("self.layer", lambda input, output: output)])
            self.layer, self.hook_postprocess = torch.nn.Linear(4, 4), postprocess
            self.add_hook("self.layer", lambda input, output: output)

        def forward(self, wavs):
            self.layer(torch.ones(1, 3, 4))
            return {}

    for postprocess in (None, lambda hidden: [(name, 2 * state) for name, state in hidden]):
        model = Hooked(postprocess)
        single = model([torch.zeros(1)])["hidden_states"][-1]
        autocast(model, "cpu")
        half = model([torch.zeros(1)])
        assert all(state.dtype == torch.float32 for state in (*half["hidden_states"], half["last_hidden_state"]))
        assert 0 < (half["last_hidden_state"] - single).norm() < 1e-2 * single.norm()


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bf16_where_the_device_multiplies_it(native, expected, monkeypatch, caplog):
    monkeypatch.setattr(precision, "native_bf16", lambda device_type: native and device_type == "cpu")
    caplog.set_level(logging.INFO)
    products, _ = types_of_products(build_upstream(precision="auto"))
    assert products == {expected} and f"auto chose {'bf16' if native else 'fp32'}" in caplog.text


def test_another_precision_is_refused():
    with pytest.raises(AalbertError, match=naming("runner.precision", "fp16", "fp32", "bf16", "auto")):
        build_upstream(precision="fp16")
