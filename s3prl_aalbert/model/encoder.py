"""The one Transformer encoder: shared layers (AALBERT), unshared (Mockingjay), and everything in between.

Every weight can be used in part, by the prefix slices of an Architecture; layers can take the attention map of the
layer before (ARMHuBERT, arXiv 2305.11685).

Legend: B batch, T tokens, D hidden size, H heads, L layers. Sizes are those of the architecture in use.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_aalbert.model.config import TransformerConfig
from s3prl_aalbert.model.masking import length_mask
from s3prl_aalbert.model.sub_network import Architecture, LayerArchitecture, full_architecture

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


def sliced_linear(layer: nn.Linear, inputs: Tensor, size: int) -> Tensor:
    """Apply the first ``size`` outputs of a linear layer to its first inputs: (..., in) -> (..., size)."""
    if (size, inputs.size(-1)) == layer.weight.shape:
        return layer(inputs)
    # Contiguous, so that a slice is computed exactly as a stand-alone layer of its size.
    weight = layer.weight[:size, : inputs.size(-1)].contiguous()
    return F.linear(inputs, weight, layer.bias[:size])


def sliced_norm(norm: nn.LayerNorm, inputs: Tensor) -> Tensor:
    """Apply the first values of a LayerNorm: (..., size) -> (..., size)."""
    size = inputs.size(-1)
    if (size,) == norm.normalized_shape:
        return norm(inputs)
    return F.layer_norm(inputs, (size,), norm.weight[:size], norm.bias[:size], norm.eps)


def take_tokens(hidden: Tensor, indices: Tensor) -> Tensor:
    """Pick tokens of each row: (B, T, D), (B, Q) -> (B, Q, D)."""
    return hidden.gather(1, indices.unsqueeze(-1).expand(-1, -1, hidden.size(-1)))


def take_rows(maps: Tensor, indices: Tensor) -> Tensor:
    """Pick the queries of attention maps: (B, H, T, T), (B, Q) -> (B, H, Q, T)."""
    return maps.gather(2, indices[:, None, :, None].expand(-1, maps.size(1), -1, maps.size(3)))


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


def rotations(num_positions: int, head_dim: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines of rotary position encoding (RoFormer, arXiv 2104.09864).

    Returns:
        (num_positions, head_dim / 2) float32 each.
    """
    position = torch.arange(num_positions, device=device, dtype=torch.float32).unsqueeze(1)
    exponent = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    angle = position * torch.pow(10000.0, -exponent)
    return angle.cos(), angle.sin()


def rotate(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys (B, H, T, E) by their angles: cosines and sines, (T, E / 2) or (B, 1, T, E / 2) each."""
    cosine, sine = (part.to(heads.dtype) for part in rotation)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class ConvolutionalPositions(nn.Module):
    """A grouped convolution over the tokens: its neighbours encode a token's position (wav2vec 2.0, section 2).

    Groups have a fixed number of channels, so that a prefix of the channels sees the prefix of the groups.
    """

    def __init__(self, size: int, group_size: int, kernel: int):
        super().__init__()
        self.group_size, self.kernel = group_size, kernel
        self.weight = nn.Parameter(torch.zeros(size, group_size, kernel))  # drawn by ``initialise``
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, hidden: Tensor) -> Tensor:
        """Convolve (B, T, D); D may be a prefix of the channels."""
        size = hidden.size(-1)
        groups = -(-size // self.group_size)
        missing = groups * self.group_size - size  # channels of the last group, filled with zeros
        weight = F.pad(self.weight[:size], (0, 0, 0, 0, 0, missing))
        bias, hidden = F.pad(self.bias[:size], (0, missing)), F.pad(hidden, (0, missing))
        convolved = F.conv1d(hidden.transpose(1, 2), weight, bias, padding=self.kernel // 2, groups=groups)
        return F.gelu(convolved).transpose(1, 2)[..., :size]


class EncoderLayer(nn.Module):
    """One post-LayerNorm Transformer layer, as BERT's."""

    def __init__(self, config: TransformerConfig, computes_attention: bool = True):
        """Build the layer's weights.

        Args:
            config: sizes; the largest if layers differ.
            computes_attention: false if every layer with these weights reuses a map, and none needs query and key.
        """
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        self.head_dim = config.head_dim
        attention_size = config.num_attention_heads * self.head_dim
        self.attention_dropout = config.attention_probs_dropout_prob
        self.activation = ACTIVATIONS[config.hidden_act]
        if computes_attention:
            self.query = nn.Linear(size, attention_size)
            self.key = nn.Linear(size, attention_size)
        self.value = nn.Linear(size, attention_size)
        self.attention_output = nn.Linear(attention_size, size)
        self.attention_norm = nn.LayerNorm(size, eps=eps)
        self.intermediate = nn.Linear(size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, size)
        self.output_norm = nn.LayerNorm(size, eps=eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden: Tensor,
        attend: Tensor | None,
        arch: LayerArchitecture,
        attention_map: Tensor | None,
        queries: Tensor | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Transform hidden states.

        Args:
            hidden: (B, T, D).
            attend: (B, 1, 1, T) bool, true at keys that may be attended to; None if nothing is padded.
            arch: this layer's sizes.
            attention_map: (B, H', T, T) probabilities of the layer before, if this layer reuses them; H' >= H.
            queries: (B, Q) the tokens whose output is needed; None is all of them (Q = T).
            rotation: cosines and sines (T, head_dim / 2) of rotary positions; None where positions are others.

        Returns:
            (B, Q, D), and the attention probabilities before dropout where the next layer reuses them, else None.
        """
        size = hidden.size(-1)
        context, probabilities = self._attention(hidden, attend, arch, attention_map, queries, rotation)
        if queries is not None:
            hidden = take_tokens(hidden, queries)
        attended = sliced_linear(self.attention_output, context, size)
        hidden = sliced_norm(self.attention_norm, hidden + self.dropout(attended))
        expanded = self.activation(sliced_linear(self.intermediate, hidden, arch.intermediate_size))
        reduced = sliced_linear(self.output, expanded, size)
        return sliced_norm(self.output_norm, hidden + self.dropout(reduced)), probabilities

    def _attention(
        self,
        hidden: Tensor,
        attend: Tensor | None,
        arch: LayerArchitecture,
        attention_map: Tensor | None,
        queries: Tensor | None,
        rotation: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the context (B, Q, H * head_dim), and the attention map if the next layer reuses it."""
        dropout = self.attention_dropout if self.training else 0.0
        value = self._heads(self.value, hidden, arch)
        if arch.reuses:
            assert attention_map is not None
            probabilities = attention_map if queries is None else take_rows(attention_map, queries)
        else:
            asking = hidden if queries is None else take_tokens(hidden, queries)
            query, key = self._heads(self.query, asking, arch), self._heads(self.key, hidden, arch)
            if rotation is not None:
                key = rotate(key, rotation)
                if queries is not None:
                    rotation = rotation[0][queries].unsqueeze(1), rotation[1][queries].unsqueeze(1)  # (B, 1, Q, ...)
                query = rotate(query, rotation)
            if not arch.is_reused:
                context = F.scaled_dot_product_attention(query, key, value, attn_mask=attend, dropout_p=dropout)
                return context.transpose(1, 2).flatten(2), None
            scores = query @ key.transpose(-2, -1) / math.sqrt(self.head_dim)  # (B, H, Q, T)
            if attend is not None:
                scores = scores.masked_fill(~attend, -torch.inf)
            probabilities = scores.softmax(-1)
        context = F.dropout(probabilities[:, : arch.num_attention_heads], dropout) @ value  # (B, H, Q, head_dim)
        # The next layer gets the map before dropout, and applies no second softmax to it.
        return context.transpose(1, 2).flatten(2), probabilities if arch.is_reused else None

    def _heads(self, projection: nn.Linear, hidden: Tensor, arch: LayerArchitecture) -> Tensor:
        heads = arch.num_attention_heads
        projected = sliced_linear(projection, hidden, heads * self.head_dim)
        return projected.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)  # (B, H, T, head_dim)


class Encoder(nn.Module):
    """L applications of G <= L sets of layer weights; a shared layer is held once and looped over."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.full = full_architecture(config)
        computing = {g for g, reuses in zip(config.group_of_layer, config.reuses_attention, strict=True) if not reuses}
        groups = range(max(config.group_of_layer) + 1)
        self.groups = nn.ModuleList(EncoderLayer(config, group in computing) for group in groups)

    def forward(
        self, hidden: Tensor, lengths: Tensor | None, arch: Architecture | None = None, queries: Tensor | None = None
    ) -> list[Tensor]:
        """Run all layers, or those of a sub-network.

        Args:
            hidden: (B, T, D) input embedding.
            lengths: (B,) real tokens of each row; None when none is padded.
            arch: a sub-network; None is the whole model.
            queries: (B, Q) the tokens whose output the last layer computes, e.g. the masked ones; None is all.

        Returns:
            L tensors (B, T, D), the outputs of the layers in order; the last one (B, Q, D) with ``queries``. Values at
            padded positions carry no meaning.
        """
        attend = None if lengths is None else length_mask(lengths, hidden.size(1))[:, None, None, :]
        outputs, attention_map, rotation = [], None, None
        if self.config.positions == "rotary":
            rotation = rotations(hidden.size(1), self.config.head_dim, hidden.device)
        layers = (arch or self.full).layers(self.config)
        for index, layer in enumerate(layers):
            last_queries = queries if index + 1 == len(layers) else None
            hidden, attention_map = self.groups[self.config.group_of_layer[index]](
                hidden, attend, layer, attention_map, last_queries, rotation
            )
            outputs.append(hidden)
        return outputs


class InputEmbedding(nn.Module):
    """Project tokens to the hidden size, add positions, normalise: the first of the hidden states."""

    def __init__(self, input_dim: int, config: TransformerConfig):
        super().__init__()
        size, narrow = config.hidden_size, config.embedding_size
        self.hidden_size = size
        self.kind = config.positions
        self.projection = nn.Linear(input_dim, narrow or size)
        self.expansion = nn.Linear(narrow, size) if narrow else None
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        if config.positions == "convolutional":
            self.position_convolution = ConvolutionalPositions(
                size, config.conv_position_group_size, config.conv_position_kernel
            )
        # No buffer: torch sends those of the first process to the others, where the table may have another length.
        self.positions = torch.empty(0, config.position_encoding_size or size)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None, arch: Architecture | None = None) -> Tensor:
        """Embed tokens (B, T, input_dim) as (B, T, D).

        Args:
            tokens: see above.
            lengths: (B,) real tokens of each row; None when none is padded.
            arch: a sub-network; None is the whole model.
        """
        size = arch.hidden_size if arch else self.hidden_size
        tokens = tokens.to(self.norm.weight.dtype)  # features have 32 bits, also where the model has 16
        if self.expansion is None:
            projected = sliced_linear(self.projection, tokens, size)
        else:
            projected = sliced_linear(self.expansion, self.projection(tokens), size)
        return self.dropout(sliced_norm(self.norm, self._placed(projected, lengths)))

    def _placed(self, projected: Tensor, lengths: Tensor | None) -> Tensor:
        """Add the encoding of each token's position to (B, T, D)."""
        if self.kind == "rotary":
            return projected
        if self.kind == "sinusoid":
            positions = self._positions(projected.size(1), projected.device)[:, : projected.size(-1)]
            return projected + positions.to(self.norm.weight.dtype)
        if lengths is not None:  # beyond its end an utterance has zeros, alone and in any batch
            projected = projected.masked_fill(~length_mask(lengths, projected.size(1)).unsqueeze(-1), 0)
        return projected + self.position_convolution(projected)

    def _positions(self, num_tokens: int, device: torch.device) -> Tensor:
        table = self.positions
        if table.size(0) < num_tokens or table.device != device:
            table = sinusoid_positions(max(num_tokens, 512), table.size(1), device)
            self.positions = table
        return table[:num_tokens]


def initialise(module: nn.Module, std: float) -> None:
    """Initialise as BERT: weights of linear layers and convolutions from N(0, std), zero biases, default LayerNorms."""
    for child in module.modules():
        if isinstance(child, (nn.Linear, ConvolutionalPositions)):
            nn.init.normal_(child.weight, std=std)
            nn.init.zeros_(child.bias)
        elif isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)
