"""The encoder against S3PRL's own TransformerModel, and what sharing a layer means for gradients.

Legend: B batch, T tokens, D hidden size, L layers.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from s3prl_aalbert.model.config import TransformerConfig
from s3prl_aalbert.model.encoder import Encoder, EncoderLayer, InputEmbedding, initialise, sinusoid_positions

SMALL = TransformerConfig(hidden_size=48, num_hidden_layers=4, num_attention_heads=6, intermediate_size=96)
INPUT_DIM = 30


class Stack(nn.Module):
    """Input embedding and encoder, nothing else."""

    def __init__(self, config: TransformerConfig, input_dim: int = INPUT_DIM):
        super().__init__()
        self.embedding = InputEmbedding(input_dim, config)
        self.encoder = Encoder(config)
        initialise(self, config.initializer_range)

    def forward(self, tokens: Tensor, lengths: Tensor | None) -> list[Tensor]:
        embedded = self.embedding(tokens)
        return [embedded, *self.encoder(embedded, lengths)]


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter, biases and LayerNorms included, a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


# -------------------------------------------------------------------------------- S3PRL's own model


def s3prl_model(config: TransformerConfig, input_dim: int) -> nn.Module:
    theirs = pytest.importorskip("s3prl.upstream.mockingjay.model")
    values = {
        name: getattr(config, name)
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "hidden_act",
            "intermediate_size",
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "initializer_range",
            "layer_norm_eps",
            "share_layer",
        )
    }
    model = theirs.TransformerModel(theirs.TransformerConfig({**values, "pre_layer_norm": False}), input_dim)
    return model.eval()


LAYER_NAMES = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
}


def copy_weights(theirs: nn.Module, ours: Stack) -> None:
    """Copy S3PRL's weights into ours; every one of ours must be covered."""
    source = theirs.state_dict()
    state = {}
    for kind in ("weight", "bias"):
        state[f"embedding.projection.{kind}"] = source[f"input_representations.spec_transform.{kind}"]
        state[f"embedding.norm.{kind}"] = source[f"input_representations.LayerNorm.{kind}"]
        for group in range(len(ours.encoder.groups)):
            for their_name, our_name in LAYER_NAMES.items():
                state[f"encoder.groups.{group}.{our_name}.{kind}"] = source[
                    f"encoder.layer.{group}.{their_name}.{kind}"
                ]
    ours.load_state_dict(state)


@pytest.mark.parametrize("share", [True, False], ids=["shared", "unshared"])
@pytest.mark.parametrize("act", ["gelu", "relu"])
@pytest.mark.parametrize("lengths", [[7], [50], [50, 31, 1, 49], [600, 3]], ids=str)
def test_hidden_states_equal_s3prls_model(share: bool, act: str, lengths: list[int]) -> None:
    config = replace(SMALL, share_layer=share, hidden_act=act)
    theirs, ours = s3prl_model(config, INPUT_DIM), Stack(config).eval()
    randomise(theirs)
    copy_weights(theirs, ours)
    tokens = torch.randn(len(lengths), max(lengths), INPUT_DIM, generator=torch.Generator().manual_seed(1))
    real = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    positions = s3prl_positions(max(lengths), config.hidden_size)
    with torch.no_grad():
        expected = theirs(tokens, positions, real.float())
        found = ours(tokens, torch.tensor(lengths))
    assert len(found) == len(expected) == config.num_hidden_layers + 1
    for layer, (a, b) in enumerate(zip(found, expected, strict=True)):
        torch.testing.assert_close(a[real], b[real], atol=1e-5, rtol=0, msg=f"hidden state {layer} differs")
    assert (expected[0][real] - expected[-1][real]).abs().max() > 0.1  # the layers do something


@pytest.mark.parametrize("share", [True, False], ids=["shared", "unshared"])
def test_the_full_width_model_equals_s3prls(share: bool) -> None:
    config = TransformerConfig(num_hidden_layers=3, share_layer=share)
    theirs, ours = s3prl_model(config, 480), Stack(config, 480).eval()
    copy_weights(theirs, ours)
    lengths, tokens = torch.tensor([40, 23]), torch.randn(2, 40, 480, generator=torch.Generator().manual_seed(2))
    real = torch.arange(40) < lengths.unsqueeze(1)
    with torch.no_grad():
        expected, found = theirs(tokens, sinusoid_positions(40, 768), real.float()), ours(tokens, lengths)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a[real], b[real], atol=1e-5, rtol=0)


def s3prl_positions(num_positions: int, hidden_size: int) -> Tensor:
    """Return S3PRL's own position table, cut to the size needed (its full table takes a while to build)."""
    builder = pytest.importorskip("s3prl.upstream.mockingjay.builder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "MAX_SEQLEN", num_positions)
        return builder.get_sinusoid_table.__wrapped__(hidden_size)


def test_positions_equal_s3prls_table() -> None:
    for count, size in ((3000, 48), (1000, 8), (7, 768)):
        torch.testing.assert_close(sinusoid_positions(count, size), s3prl_positions(count, size), atol=1e-6, rtol=0)


def test_the_position_table_grows_with_the_longest_utterance() -> None:
    embedding = InputEmbedding(4, SMALL).eval()
    tokens = torch.zeros(1, 1300, 4)
    with torch.no_grad():
        short, long, again = embedding(tokens[:, :10]), embedding(tokens), embedding(tokens[:, :10])
    assert torch.equal(short, again)
    torch.testing.assert_close(long[:, :10], short, atol=1e-6, rtol=0)
    projected = embedding.norm(embedding.projection(tokens[0, :1]) + s3prl_positions(1300, 48)[1299:])
    torch.testing.assert_close(long[0, 1299:], projected, atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------------------- sharing


def test_a_shared_layer_is_held_once() -> None:
    shared, own = Encoder(SMALL), Encoder(replace(SMALL, share_layer=False))
    one = {name for name, _ in EncoderLayer(SMALL).named_parameters()}
    assert {name for name, _ in shared.named_parameters()} == {f"groups.0.{name}" for name in one}
    assert set(shared.state_dict()) == {f"groups.0.{name}" for name in one}
    assert set(own.state_dict()) == {f"groups.{layer}.{name}" for name in one for layer in range(4)}


def test_every_layers_gradient_reaches_the_one_shared_weight() -> None:
    """The gradient of a shared weight is the sum of the gradients of its four copies, none of them zero."""
    shared, copies = Stack(SMALL).double(), Stack(replace(SMALL, share_layer=False)).double()
    randomise(shared)
    weights = shared.encoder.groups[0].state_dict()
    copies.embedding.load_state_dict(shared.embedding.state_dict())
    for group in copies.encoder.groups:
        group.load_state_dict(weights)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 20, INPUT_DIM, generator=generator, dtype=torch.float64)
    direction = torch.randn(2, 20, 48, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([20, 13])
    for model in (shared, copies):
        (model(tokens, lengths)[-1] * direction)[lengths.unsqueeze(1) > torch.arange(20)].sum().backward()
    for name, parameter in shared.encoder.groups[0].named_parameters():
        gradients = [dict(group.named_parameters())[name].grad for group in copies.encoder.groups]
        if name != "key.bias":  # soft-max is blind to it: its gradient is zero by mathematics
            assert all(gradient is not None and gradient.abs().max() > 1e-8 for gradient in gradients), name
        torch.testing.assert_close(parameter.grad, sum(gradients), atol=1e-10, rtol=1e-8, msg=name)


def test_changing_the_shared_weight_changes_every_layer() -> None:
    stack, tokens = Stack(SMALL).eval(), torch.randn(1, 9, INPUT_DIM, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        before = stack(tokens, None)
        stack.encoder.groups[0].output.bias[0] += 1.0
        after = stack(tokens, None)
    changed = [float((a - b).abs().max()) > 1e-3 for a, b in zip(before, after, strict=True)]
    assert changed == [False, True, True, True, True]


# ------------------------------------------------------------------------------- padding, dropout, start


def test_padding_is_never_attended_to() -> None:
    stack = Stack(SMALL).eval()
    randomise(stack)
    tokens = torch.randn(2, 12, INPUT_DIM, generator=torch.Generator().manual_seed(5))
    lengths, other = torch.tensor([12, 5]), tokens.clone()
    other[1, 5:] = 100.0
    with torch.no_grad():
        for a, b in zip(stack(tokens, lengths), stack(other, lengths), strict=True):
            assert torch.equal(a[0], b[0]) and torch.equal(a[1, :5], b[1, :5])
        assert not torch.allclose(stack(tokens, None)[-1][1, :5], stack(other, None)[-1][1, :5], atol=1e-3)


@pytest.mark.parametrize("key", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_is_for_training_alone(key: str) -> None:
    stack = Stack(replace(SMALL, **{key: 0.5}))
    randomise(stack)
    tokens = torch.randn(1, 9, INPUT_DIM, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        torch.manual_seed(0)
        assert not torch.allclose(stack.train()(tokens, None)[-1], stack(tokens, None)[-1], atol=1e-3)
        stack.eval()
        assert torch.equal(stack(tokens, None)[-1], stack(tokens, None)[-1])
        without = Stack(SMALL).eval()
        without.load_state_dict(stack.state_dict())
        assert torch.equal(stack(tokens, None)[-1], without(tokens, None)[-1])


def test_initial_weights_are_berts() -> None:
    torch.manual_seed(0)
    stack = Stack(TransformerConfig(hidden_size=256, num_attention_heads=4, intermediate_size=512), 480)
    for name, parameter in stack.named_parameters():
        if "norm" in name:
            assert (parameter == (1.0 if name.endswith("weight") else 0.0)).all(), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            values = parameter.detach()
            assert abs(float(values.mean())) < 5e-4 and abs(float(values.std()) - 0.02) < 5e-4, name
