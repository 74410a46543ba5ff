"""Relative positions: the convolution is torch's own, the rotation that of complex numbers, and padding is not seen.

Legend: B batch, T tokens, D hidden size.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from s3prl_aalbert.model.config import TransformerConfig
from s3prl_aalbert.model.encoder import ConvolutionalPositions, Encoder, InputEmbedding, initialise, rotate, rotations

SMALL = TransformerConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
CONVOLUTIONAL = replace(SMALL, positions="convolutional", conv_position_kernel=5, conv_position_group_size=8)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolution(size: int, group_size: int, kernel: int) -> ConvolutionalPositions:
    module = ConvolutionalPositions(size, group_size, kernel).double()
    with torch.no_grad():
        module.weight.copy_(random(*module.weight.shape, seed=1))
        module.bias.copy_(random(size, seed=2))
    return module


def test_the_convolution_is_torchs_grouped_one() -> None:
    ours, hidden = convolution(24, 8, 5), random(2, 11, 24)
    theirs = nn.Conv1d(24, 24, 5, padding=2, groups=3).double()
    theirs.load_state_dict({"weight": ours.weight, "bias": ours.bias})
    expected = nn.functional.gelu(theirs(hidden.transpose(1, 2))).transpose(1, 2)
    torch.testing.assert_close(ours(hidden), expected)


@pytest.mark.parametrize("size", [8, 13, 24])
def test_a_prefix_of_the_channels_is_the_whole_with_zeros(size: int) -> None:
    """A group that is there in part sees zeros in place of the channels that are not."""
    module, hidden = convolution(24, 8, 5), random(2, 11, size)
    whole = module(torch.nn.functional.pad(hidden, (0, 24 - size)))
    torch.testing.assert_close(module(hidden), whole[..., :size])


def test_a_group_may_be_wider_than_the_model_or_no_divisor_of_it() -> None:
    assert convolution(4, 16, 3)(random(1, 5, 4)).shape == (1, 5, 4)
    assert convolution(10, 4, 3)(random(1, 5, 10)).shape == (1, 5, 10)


def test_the_rotation_is_that_of_complex_numbers() -> None:
    heads = random(2, 3, 7, 6)
    angle = torch.arange(7, dtype=torch.float64).unsqueeze(1) * 10000.0 ** (-torch.arange(3, dtype=torch.float64) / 3)
    turned = torch.complex(heads[..., :3], heads[..., 3:]) * torch.polar(torch.ones_like(angle), angle)
    expected = torch.cat([turned.real, turned.imag], dim=-1)
    torch.testing.assert_close(rotate(heads, rotations(7, 6)), expected, atol=1e-6, rtol=1e-6)


def test_rotated_products_depend_on_the_distance_alone() -> None:
    query, key = random(1, 1, 1, 8).expand(1, 1, 20, 8), random(1, 1, 1, 8, seed=1).expand(1, 1, 20, 8)
    products = (rotate(query, rotations(20, 8)) @ rotate(key, rotations(20, 8)).transpose(-1, -2))[0, 0]
    for distance in range(-19, 20):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)


def test_rotary_queries_of_some_tokens_are_those_of_all() -> None:
    torch.manual_seed(0)
    encoder = Encoder(replace(SMALL, positions="rotary")).double().eval()
    hidden, queries = random(2, 9, 24), torch.tensor([[1, 4, 8], [0, 2, 3]])
    with torch.no_grad():
        whole, some = encoder(hidden, None)[-1], encoder(hidden, None, queries=queries)[-1]
    torch.testing.assert_close(some, torch.stack([whole[row, queries[row]] for row in range(2)]))


def test_without_positions_a_rotary_model_would_not_know_the_order() -> None:
    """Reversed input gives other outputs than reversed outputs, for both relative kinds."""
    for config in (replace(SMALL, positions="rotary", initializer_range=0.3), replace(CONVOLUTIONAL)):
        torch.manual_seed(0)
        embedding, encoder = InputEmbedding(6, config).double().eval(), Encoder(config).double().eval()
        for module in (*embedding.parameters(), *encoder.parameters()):
            nn.init.normal_(module, std=0.3)
        tokens = random(1, 9, 6)
        with torch.no_grad():
            forward = encoder(embedding(tokens), None)[-1]
            backward = encoder(embedding(tokens.flip(1)), None)[-1].flip(1)
        assert (forward - backward).abs().max() > 1e-3


def test_a_shift_moves_the_output_along() -> None:
    """No place is special: tokens between zeros are embedded alike wherever they stand."""
    torch.manual_seed(0)
    embedding = InputEmbedding(6, CONVOLUTIONAL).double().eval()
    initialise(embedding, 0.3)
    nn.init.zeros_(embedding.projection.bias)
    speech = random(1, 5, 6)
    early = embedding(nn.functional.pad(speech, (0, 0, 4, 14)))
    late = embedding(nn.functional.pad(speech, (0, 0, 14, 4)))
    torch.testing.assert_close(early[:, 2:11], late[:, 12:21])


def test_the_convolution_does_not_see_padding() -> None:
    torch.manual_seed(0)
    embedding = InputEmbedding(6, CONVOLUTIONAL).double().eval()
    initialise(embedding, 0.3)
    nn.init.normal_(embedding.projection.bias)  # what would leak: padded tokens are zero, their projection is not
    tokens = random(1, 7, 6)
    padded = nn.functional.pad(tokens, (0, 0, 0, 9), value=3.0)
    torch.testing.assert_close(embedding(padded, torch.tensor([7]))[:, :7], embedding(tokens))


def test_longer_speech_changes_no_buffer() -> None:
    """Fine-tuning on several GPUs: torch sends the first process's buffers into those of the others, as they are."""
    embedding = InputEmbedding(6, SMALL)
    before = {name: buffer.shape for name, buffer in embedding.named_buffers()}
    embedding(torch.zeros(1, 700, 6))
    assert {name: buffer.shape for name, buffer in embedding.named_buffers()} == before
