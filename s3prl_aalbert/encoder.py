"""The one Transformer encoder: shared layers (AALBERT), unshared (Mockingjay), and everything in between.

Legend: B batch, T tokens, D hidden size, H heads, L layers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_aalbert.config import TransformerConfig
from s3prl_aalbert.masking import length_mask

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


def sinusoid_positions(num_positions: int, hidden_size: int, device: torch.device | None = None) -> Tensor:
    """Return the fixed sinusoidal position encoding of Vaswani et al. (2017).

    Returns:
        (num_positions, hidden_size) float32; even columns are sines, odd ones cosines of the same angle.
    """
    # float64 on the CPU: float32 exponents are off by 1e-5 at position 1,000, and some devices have no float64.
    position = torch.arange(num_positions, dtype=torch.float64, device="cpu").unsqueeze(1)
    column = torch.arange(hidden_size, device="cpu")
    exponent = 2 * torch.div(column, 2, rounding_mode="floor").double() / hidden_size
    angle = position / torch.pow(10000.0, exponent)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float().to(device)


class EncoderLayer(nn.Module):
    """One post-LayerNorm Transformer layer, as BERT's."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        self.num_heads = config.num_attention_heads
        self.head_dim = size // self.num_heads
        self.attention_dropout = config.attention_probs_dropout_prob
        self.activation = ACTIVATIONS[config.hidden_act]
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.attention_output = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size, eps=eps)
        self.intermediate = nn.Linear(size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, size)
        self.output_norm = nn.LayerNorm(size, eps=eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, attend: Tensor | None) -> Tensor:
        """Transform hidden states.

        Args:
            hidden: (B, T, D).
            attend: (B, 1, 1, T) bool, true at keys that may be attended to; None when nothing is padded.

        Returns:
            (B, T, D).
        """
        hidden = self.attention_norm(hidden + self.dropout(self._attention(hidden, attend)))
        expanded = self.activation(self.intermediate(hidden))  # (B, T, intermediate)
        return self.output_norm(hidden + self.dropout(self.output(expanded)))

    def _attention(self, hidden: Tensor, attend: Tensor | None) -> Tensor:
        dropout = self.attention_dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(
            self._split_heads(self.query(hidden)),
            self._split_heads(self.key(hidden)),
            self._split_heads(self.value(hidden)),
            attn_mask=attend,
            dropout_p=dropout,
        )  # (B, H, T, D / H)
        return self.attention_output(context.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)  # (B, H, T, D / H)


class Encoder(nn.Module):
    """L applications of G <= L sets of layer weights; a shared layer is held once and looped over."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.layer_groups = config.layer_groups
        self.groups = nn.ModuleList(EncoderLayer(config) for _ in range(max(self.layer_groups) + 1))

    def forward(self, hidden: Tensor, lengths: Tensor | None) -> list[Tensor]:
        """Run all layers.

        Args:
            hidden: (B, T, D) input embedding.
            lengths: (B,) real tokens of each row; None when none is padded.

        Returns:
            L tensors (B, T, D), the outputs of the layers in order. Values at padded positions carry no meaning.
        """
        attend = None if lengths is None else length_mask(lengths, hidden.size(1))[:, None, None, :]
        outputs = []
        for group in self.layer_groups:
            hidden = self.groups[group](hidden, attend)
            outputs.append(hidden)
        return outputs


class InputEmbedding(nn.Module):
    """Project tokens to the hidden size, add positions, normalise: the first of the hidden states."""

    positions: Tensor

    def __init__(self, input_dim: int, config: TransformerConfig):
        super().__init__()
        self.projection = nn.Linear(input_dim, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.register_buffer("positions", torch.empty(0, config.hidden_size), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed tokens (B, T, input_dim) as (B, T, D)."""
        positions = self._positions(tokens.size(1), tokens.device)
        return self.dropout(self.norm(self.projection(tokens) + positions))

    def _positions(self, num_tokens: int, device: torch.device) -> Tensor:
        table = self.positions
        if table.size(0) < num_tokens or table.device != device:
            table = sinusoid_positions(max(num_tokens, 512), table.size(1), device)
            self.positions = table
        return table[:num_tokens]


def initialise(module: nn.Module, std: float) -> None:
    """Draw every linear weight below ``module`` from N(0, std), zero its bias, reset LayerNorms (as BERT)."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, std=std)
            nn.init.zeros_(child.bias)
        elif isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)
