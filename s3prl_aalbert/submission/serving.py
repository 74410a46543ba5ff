"""Exports the whole model as one graph from waveforms to hidden states, for torch.export and for ONNX.

Batch size and length are free. The graph computes the same as ``UpstreamExpert``. This module contains only the parts
that the exporters cannot express in the model's own form.

Legend: B batch, S samples, T tokens, D hidden size, L layers.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from s3prl_aalbert.checkpoint.release import Checkpoint
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_atomically, write_text
from s3prl_aalbert.model.aalbert import AalbertModel, centred
from s3prl_aalbert.model.acoustics import Acoustics
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.encoder import InputEmbedding, sinusoid_positions
from s3prl_aalbert.model.masking import length_mask
from s3prl_aalbert.submission.card import exported_card
from s3prl_aalbert.upstream.expert import UpstreamExpert

INPUTS, OUTPUTS = ("wavs", "num_samples"), ("hidden_states", "num_tokens")
FILES = {"torch": "model.pt2", "onnx": "model.onnx"}
EXTRA = ("onnx", "onnxscript")
"""Packages of the extra `serving` for writing ONNX; onnxruntime runs it."""


class ServingModel(nn.Module):
    """A model with the interface of the graphs.

    Args:
        model: its weights are shared; its encoder is put into evaluation mode.
    """

    def __init__(self, model: AalbertModel):
        super().__init__()
        config = model.config
        self.token_samples = config.samples_per_token
        self.acoustics = GraphAcoustics(config.audio, config.transformer.downsample_rate)
        self.acoustics.load_state_dict(model.acoustics.state_dict())
        self.embedding = GraphEmbedding(config.input_dim, config.transformer)
        self.embedding.load_state_dict(model.embedding.state_dict(), assign=True)
        self.encoder = model.encoder
        self.hidden_means: Tensor | None
        self.register_buffer("hidden_means", model.hidden_means)
        self.eval()

    def forward(self, wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Represent a padded batch.

        Args:
            wavs: (B, S) float32 waveforms at 16 kHz; values past num_samples are ignored.
            num_samples: (B,) int64 real samples of each, from 1 to S.

        Returns:
            hidden_states: (L + 1, B, T, D), the input embedding and every layer; zero where padded.
            num_tokens: (B,) int64 real tokens of each; T is the largest.
        """
        size = self.token_samples
        # Pad to whole tokens, since ONNX and Python round quotients of negative numbers differently. Pad by one more
        # token, since torch.export would otherwise exclude the case of a single token.
        whole = (wavs.size(1) + size - 1) // size * size
        features = self.acoustics(functional.pad(wavs, (0, whole + size - wavs.size(1))), num_samples)
        embedded = self.embedding(features.tokens, features.lengths)
        states = centred([embedded, *self.encoder(embedded, features.lengths)], self.hidden_means)
        padding = ~length_mask(features.lengths, embedded.size(1)).unsqueeze(-1)
        longest = features.lengths.max().item()
        torch._check(longest >= 1)
        torch._check(longest <= embedded.size(1))
        stacked = torch.stack([state.masked_fill(padding, 0) for state in states])
        return stacked[:, :, :longest], features.lengths


class GraphAcoustics(Acoustics):
    """The features without operations that ONNX lacks: log1p, and a convolution with one group per utterance.

    The exporter replaces log1p by log(1 + x), which rounds near-silence away.
    """

    def _deltas(self, frames: Tensor, reach: int = 2) -> Tensor:
        return deltas(frames, reach)

    def _log1p(self, level: Tensor) -> Tensor:
        return torch.where(level < 0.5, 2 * torch.atanh(level / (level + 2)), torch.log(1 + level))


def deltas(frames: Tensor, reach: int = 2) -> Tensor:
    """Return the slope of each dimension over 2 * reach + 1 frames, (B, F, dim): torchaudio's compute_deltas."""
    padded = functional.pad(frames.transpose(1, 2), (reach, reach), mode="replicate").transpose(1, 2)

    def shifted(offset: int) -> Tensor:
        return padded[:, reach + offset : reach + offset + frames.size(1)]

    rises = [n * (shifted(n) - shifted(-n)) for n in range(1, reach + 1)]
    return torch.stack(rises).sum(0) / (2 * sum(n * n for n in range(1, reach + 1)))


class GraphEmbedding(InputEmbedding):
    """The input embedding with positions computed in the graph, since a table that grows would be state."""

    def _positions(self, num_tokens: int, device: torch.device) -> Tensor:
        return sinusoid_positions(num_tokens, self.positions.size(1), device)


def write_serving_folder(checkpoint: Checkpoint, folder: Path, kind: str, licence: str | None = None) -> None:
    """Write the graph of a model, and its card.

    Args:
        checkpoint: any model of this project.
        folder: created if missing.
        kind: ``torch`` for model.pt2, ``onnx`` for model.onnx.
        licence: licence of the weights for the card; None keeps that of the model's own card.

    Raises:
        AalbertError: the weights do not fit their configuration, or writing ONNX needs the extra ``serving``.
    """
    model = ServingModel(UpstreamExpert(ckpt=str(checkpoint.path)).model)
    card = exported_card(checkpoint, _usage(checkpoint.config, kind), licence)
    write = {"torch": write_program, "onnx": write_onnx}[kind]
    write(model, folder / FILES[kind])
    write_text(folder / "README.md", card)


def write_program(model: ServingModel, path: Path) -> None:
    """Write the program of torch.export, which ``torch.export.load(path).module()`` runs without this package."""
    with tracing():
        program = torch.export.export(model, example(), dynamic_shapes=free_shapes(), strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a name, torch requires the suffix .pt2
            torch.export.save(program, file)

    with tracing():
        write_atomically(path, save)


def write_onnx(model: ServingModel, path: Path) -> None:
    """Write the ONNX graph.

    Raises:
        AalbertError: onnx or onnxscript is not installed.
    """
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise AalbertError(f"ONNX needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    from onnxscript import optimizer

    with tracing():
        # Without the exporter's optimisation: its rule for x + 0 treats 1e-10 as 0, which CMVN needs on silence.
        program = torch.onnx.export(
            model,
            example(),
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=free_shapes(),
        )
        assert program is not None
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # paths of this machine
    audio = model.acoustics.config
    facts = {"sample_rate": audio.sample_rate, "samples_per_token": model.token_samples}
    program.model.metadata_props.update({name: str(value) for name, value in facts.items()})
    write_atomically(path, program.save)


def example() -> tuple[Tensor, Tensor]:
    """Return inputs for tracing; the graph does not depend on their sizes or values."""
    return torch.linspace(-0.1, 0.1, 2 * 8001).view(2, 8001), torch.tensor([8001, 5000])


def free_shapes() -> dict[str, dict[int, object]]:
    """Return the axes of the inputs that may have any size."""
    free = torch.export.Dim.DYNAMIC
    return {"wavs": {0: free, 1: free}, "num_samples": {0: free}}


@contextmanager
def tracing() -> Iterator[None]:
    """Disable gradients, and suppress the exporters' warnings about their own internals."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _usage(config: ModelConfig, kind: str) -> str:
    rate, size = config.audio.sample_rate, config.samples_per_token
    shape = f"({config.transformer.num_hidden_layers + 1}, batch, tokens, {config.transformer.hidden_size})"
    return f"""## Use

```
{_EXAMPLES[kind]}```

| | |
|---|---|
| wavs | (batch, samples) float32 at {rate} Hz, padded with any finite values |
| num_samples | (batch,) int64 real samples of each waveform, at least 1, at most what wavs holds |
| hidden_states | {shape} float32: input embedding and every layer, zero where padded |
| num_tokens | (batch,) int64 real tokens of each; a token is {size} samples |
"""


_EXAMPLES = {
    "torch": """import torch

model = torch.export.load("model.pt2").module()  # only files that you trust
hidden_states, num_tokens = model(wavs, num_samples)
""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
hidden_states, num_tokens = session.run(None, {"wavs": wavs, "num_samples": num_samples})
""",
}
