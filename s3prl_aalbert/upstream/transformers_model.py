"""The model as transformers loads it: ``AutoModel.from_pretrained(DIR, trust_remote_code=True)``.

``aalbert convert --to huggingface`` writes a copy of this module, and of those that it needs, beside the weights.

Legend: B batch, S samples, T tokens, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.model.aalbert import AalbertModel as Encoder
from s3prl_aalbert.model.acoustics import Acoustics
from s3prl_aalbert.model.config import ModelConfig, from_dict, to_dict
from s3prl_aalbert.upstream.expert import represent


class AalbertConfig(PretrainedConfig):
    """The configuration of a model: this project's sections as plain mappings; a missing section has its defaults."""

    model_type = "aalbert"

    def __init__(
        self,
        transformer: dict[str, object] | None = None,
        audio: dict[str, object] | None = None,
        task: dict[str, object] | None = None,
        **kwargs: object,
    ):
        given = {"transformer": transformer or {}, "audio": audio or {}, "task": task or {}}
        sections = to_dict(from_dict(ModelConfig, given, "config.json"))
        self.transformer, self.audio, self.task = (sections[name] for name in given)
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """The width of every hidden state."""
        return self.transformer["hidden_size"]

    @property
    def num_hidden_layers(self) -> int:
        """Number of layers; ``hidden_states`` holds the input embedding before them."""
        return self.transformer["num_hidden_layers"]

    def model_config(self) -> ModelConfig:
        """Return it as this project's own type."""
        sections = {"transformer": self.transformer, "audio": self.audio, "task": self.task}
        return from_dict(ModelConfig, sections, "config.json")


class AalbertModel(PreTrainedModel):
    """AALBERT or Mockingjay: waveforms in, hidden states out, the same as the upstream's."""

    config_class = AalbertConfig
    base_model_prefix = "aalbert"
    main_input_name = "input_values"
    _keys_to_ignore_on_load_unexpected = [r"^head\."]  # noqa: RUF012 (transformers reads a list)

    def __init__(self, config: AalbertConfig):
        super().__init__(config)
        self.model = _built(config.model_config())  # which initialises itself
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Compute the constants that no file holds, since transformers 5 discards them; weights exist already."""
        if isinstance(module, Acoustics):
            fresh = Acoustics(module.config, module.stack)
            for name in ("window", "filters"):
                getattr(module, name).copy_(getattr(fresh, name))

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutput | tuple[Tensor, ...]:
        """Represent a padded batch of waveforms.

        Args:
            input_values: (B, S) float waveforms at 16 kHz; masked samples are ignored.
            attention_mask: (B, S) 1 for samples, then 0 for padding; None if nothing is padded.
            output_hidden_states: whether to return every hidden state; default: as the configuration.
            return_dict: False returns a tuple; default: as the configuration.

        Returns:
            ``last_hidden_state`` (B, T, D), zero where padded; ``hidden_states``: the input embedding and every layer.

        Raises:
            AalbertError: the mask has another shape, or padding before or between samples; or samples are unusable.
        """
        if input_values.dim() != 2:
            raise AalbertError(f"input_values has shape {tuple(input_values.shape)}, expected (batch, samples)")
        states = represent(self.model, _unpadded(input_values, attention_mask))
        shown = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = BaseModelOutput(last_hidden_state=states[-1], hidden_states=tuple(states) if shown else None)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()


def _built(config: ModelConfig) -> Encoder:
    """Build the model with constants in 32 bits, whatever default type transformers has set.

    It is built on the CPU: torchaudio's filters fail on the device "meta", where transformers 5 builds models.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            return Encoder(config).to(default)
    finally:
        torch.set_default_dtype(default)


def _unpadded(wavs: Tensor, mask: Tensor | None) -> list[Tensor]:
    if mask is None:
        return list(wavs)
    if mask.shape != wavs.shape:
        raise AalbertError(f"attention_mask has shape {tuple(mask.shape)}, expected {tuple(wavs.shape)}")
    real = mask.bool()
    if (real[:, 1:] & ~real[:, :-1]).any():
        raise AalbertError("attention_mask has padding before or between samples, expected padding only at the end")
    return [wav[:length] for wav, length in zip(wavs, real.sum(dim=1).tolist(), strict=True)]
