"""Names of the classes, kept in a task's checkpoints: weights that were trained for others are refused."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from s3prl_aalbert.errors import AalbertError

STATE = "_extra_state"  # torch's name of what get_extra_state returns
SHOWN = 5
"""Most names in a message."""


class KnowsClasses(nn.Module):
    """A downstream expert with classes by task."""

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_without_names)
        self.register_load_state_dict_pre_hook(_with_other_outputs)

    @abstractmethod
    def classes(self) -> dict[str, list[str]]:
        """Return the names by task, in the order of the classifier's outputs."""

    def get_extra_state(self) -> dict[str, list[str]]:
        """Return what ``state_dict`` keeps beside the weights."""
        return self.classes()

    def set_extra_state(self, state: Mapping[str, Sequence[str]]) -> None:
        """Compare the names of a checkpoint with those of the data.

        Raises:
            AalbertError: they differ; the weights would be of other classes, or of another size.
        """
        for task, names in self.classes().items():
            trained = list(state.get(task, names))
            if trained != names:
                raise AalbertError(
                    f"{task}: the data have {len(names)} classes, the checkpoint was trained with {len(trained)}"
                    f"{_only('in the data', names, trained)}{_only('in the checkpoint', trained, names)}"
                )


def _only(where: str, names: Sequence[str], others: Sequence[str]) -> str:
    found = sorted(set(names) - set(others))
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"; only {where}: {', '.join(found[:SHOWN])}{more}" if found else ""


def _without_names(module: KnowsClasses, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a checkpoint that names no classes pass, as those before this check did."""
    state_dict.setdefault(prefix + STATE, module.classes())


def _with_other_outputs(module: KnowsClasses, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Refuse a classifier of the same classes that was trained with another ``datarc.token_label``."""
    if state_dict[prefix + STATE] != module.classes():
        return  # told by set_extra_state
    for name, own in module.named_parameters():
        found = state_dict.get(prefix + name)
        if found is not None and found.shape[1:] == own.shape[1:] and len(found) != len(own):
            raise AalbertError(
                f"the checkpoint's classifier has {len(found)} outputs a token, the task's {len(own)}: "
                "set datarc.token_label as it was in training (each, or centre before there was a choice)"
            )
