"""Stores the names of the classes in a task's checkpoints, and refuses weights that were trained for other classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from s3prl_aalbert.errors import AalbertError

STATE = "_extra_state"  # the key that torch gives to the result of get_extra_state
SHOWN = 5
"""Largest number of names in a message."""


class KnowsClasses(nn.Module):
    """A downstream expert that knows the classes of its tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_without_names)
        self.register_load_state_dict_pre_hook(_with_other_outputs)

    @abstractmethod
    def classes(self) -> dict[str, list[str]]:
        """Return the names of each task's classes, in the order of the classifier's outputs."""

    def get_extra_state(self) -> dict[str, list[str]]:
        """Return what ``state_dict`` stores beside the weights."""
        return self.classes()

    def set_extra_state(self, state: Mapping[str, Sequence[str]]) -> None:
        """Compare the names of a checkpoint with those of the data.

        Raises:
            AalbertError: they differ, so that the weights belong to other classes or have another size.
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


def _without_names(module: KnowsClasses, state_dict: dict[str, object], prefix: str, *_: object) -> None:
    """Accept a checkpoint without names, as the first versions wrote it."""
    state_dict.setdefault(prefix + STATE, module.classes())


def _with_other_outputs(module: KnowsClasses, state_dict: Mapping[str, object], prefix: str, *_: object) -> None:
    """Refuse a classifier of the same classes that was trained with another ``datarc.token_label``."""
    if state_dict[prefix + STATE] != module.classes():
        return  # set_extra_state reports it
    for name, own in module.named_parameters():
        found = state_dict.get(prefix + name)
        if isinstance(found, Tensor) and found.shape[1:] == own.shape[1:] and len(found) != len(own):
            raise AalbertError(
                f"the checkpoint's classifier has {len(found)} outputs per token, and the task's has {len(own)}: "
                "set datarc.token_label as it was in training (each, or centre before there was a choice)"
            )
