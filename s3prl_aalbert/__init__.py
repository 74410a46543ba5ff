"""Audio ALBERT (AALBERT) for the S3PRL speech toolkit.

What the ``aalbert`` command does most often, from Python (``s3prl_aalbert.api``)::

    import s3prl_aalbert as aalbert

    model = aalbert.load()                             # the model that comes with the package; or any upstream's name
    tokens = aalbert.features(model, "speech.flac")    # (tokens, width)
    folder = aalbert.pretrain(["my_wavs"], "result/pretrain/mine", model="aalbert_small")
    probes = aalbert.probe("aalbert_local", "result/probe", ckpt=folder, config="aalbert_probe_timit")
    page = aalbert.report(["result"], "report")

Importing the package imports neither torch nor S3PRL. The first of these calls does.
"""

import importlib
import types
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from s3prl_aalbert.api import Probed as Probed
    from s3prl_aalbert.api import features as features
    from s3prl_aalbert.api import load as load
    from s3prl_aalbert.api import pretrain as pretrain
    from s3prl_aalbert.api import probe as probe
    from s3prl_aalbert.api import report as report

_API = ("Probed", "features", "load", "pretrain", "probe", "report")


def __getattr__(name: str) -> object:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})


class _CallablePackage(types.ModuleType):
    """A sub-package that shares its name with a function of the API: calling it calls that function."""

    def __call__(self, *args: object, **options: object) -> object:
        name = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module(f"{__package__}.api"), name)(*args, **options)


for _name in ("pretrain", "report"):
    importlib.import_module(f"{__name__}.{_name}").__class__ = _CallablePackage
