"""The folder that S3PRL's ``run_downstream.py --hub huggingface`` expects; it works without this package.

``expert.py`` brings the modules that inference needs along: verbatim copies of our own under another package name, so
that there is one way to compute things and an installed version of this package is never mixed in. ``model.pt`` is a
checkpoint in the format of a training state, holding the representation model alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from s3prl_aalbert import __version__
from s3prl_aalbert.checkpoint import MODEL_PREFIX, Checkpoint, save_training_state, write_text
from s3prl_aalbert.submission.card import exported_card
from s3prl_aalbert.upstream.expert import UpstreamExpert

PRODUCT, COPY = "s3prl_aalbert", "aalbert_inference"
ENTRY = UpstreamExpert.__module__
WEIGHTS = "model.pt"
"""S3PRL's default of --upstream_model_name."""
# As in pyproject.toml, for the modules copied.
REQUIREMENTS = ("torch>=2.8,<2.12", "torchaudio>=2.8,<2.12", "numpy", "pyyaml", "safetensors>=0.4")
HEADER = f"# SPDX-License-Identifier: Apache-2.0\n# From s3prl-aalbert {__version__}, copied by `aalbert export`.\n"

EXPERT = f'''"""The upstream for S3PRL's `run_downstream.py --hub huggingface`; needs requirements.txt alone."""

import sys
from pathlib import Path

FOLDER = Path(__file__).absolute().parent  # not resolved: the Hub's cache holds links to files kept elsewhere
if str(FOLDER) not in sys.path:
    sys.path.append(str(FOLDER))

import {COPY}
from {COPY}.upstream import expert

if Path({COPY}.__file__).absolute().parent.parent != FOLDER:
    raise ImportError(f"{{{COPY}.__file__}} is in the way of {{FOLDER}}: use one exported model in a process")


class UpstreamExpert(expert.UpstreamExpert):
    """AALBERT or Mockingjay: a list of (num_samples,) waveforms at 16 kHz in, hidden states out.

    Args:
        ckpt: the weights; {WEIGHTS} beside this file when not given.
        model_config: the YAML of a sub-network (-g arch.yaml) to use of a supernet.
    """

    def __init__(self, ckpt=None, model_config=None, **options):
        super().__init__(ckpt=str(ckpt or FOLDER / "{WEIGHTS}"), model_config=model_config, **options)
'''

USAGE = f"""## Use

With s3prl-aalbert installed, from a copy of this folder:

```
aalbert downstream -m train -u aalbert_local -k THIS_FOLDER/{WEIGHTS} -d TASK -n EXPNAME
```

In S3PRL itself, with this folder as the repository USER/NAME of the Hugging Face Hub; S3PRL 0.4.18 logs in there with
a user name and a password, which the Hub has ended:

```
run_downstream.py -m train --hub huggingface -u USER/NAME -d TASK -n EXPNAME
```

In Python, in this folder and with its requirements.txt installed:

```
from expert import UpstreamExpert

hidden_states = UpstreamExpert().eval()([wav])["hidden_states"]  # wav: (num_samples,) at 16 kHz
```
"""


def write_folder(checkpoint: Checkpoint, folder: Path, licence: str | None = None) -> None:
    """Write expert.py with the modules it needs, model.pt, requirements.txt and README.md.

    Args:
        checkpoint: any model of this project.
        folder: made if need be.
        licence: of the weights, for the card; None keeps what the model's own card says.

    Raises:
        CheckpointError: the weights do not fit their configuration, or the folder cannot be written.
    """
    UpstreamExpert(ckpt=str(checkpoint.path))  # refuses what would fail at its first use
    card = exported_card(checkpoint, USAGE, licence)
    weights = {name: tensor for name, tensor in checkpoint.state.items() if name.startswith(MODEL_PREFIX)}
    state = {"step": checkpoint.info.get("step"), "model": weights}
    save_training_state(folder / WEIGHTS, checkpoint.config, state)
    for path, source in copied_sources().items():
        write_text(folder / path, source)
    write_text(folder / "expert.py", HEADER + EXPERT)
    write_text(folder / "requirements.txt", "\n".join(REQUIREMENTS) + "\n")
    write_text(folder / "README.md", card)


def copied_sources() -> dict[str, str]:
    """Return what the upstream's module and all that it imports of this package become, by path in the folder."""
    sources: dict[str, tuple[str, str]] = {}  # module -> (path below the package, text)
    waiting = [ENTRY]
    while waiting:
        module = waiting.pop()
        found = None if module in sources else _source(module)
        if found is not None:
            sources[module] = found
            waiting += [module.rpartition(".")[0], *_imported_modules(found[1])]
    return {f"{COPY}/{path}": HEADER + _renamed(text) for path, text in sorted(sources.values())}


def _source(module: str) -> tuple[str, str] | None:
    """Return path and text of a module of this package, or None where the name is none."""
    top, *parts = module.split(".")
    if top != PRODUCT:
        return None
    if not parts:  # offers the whole package, most of which is no part of inference
        return "__init__.py", f'"""What inference needs of s3prl-aalbert."""\n\n__version__ = "{__version__}"\n'
    root = files(PRODUCT)
    for path in ("/".join([*parts, "__init__.py"]), "/".join(parts) + ".py"):
        file = root.joinpath(path)
        if file.is_file():
            return path, file.read_text(encoding="utf-8")
    return None


def _imported_modules(source: str) -> Iterator[str]:
    """Yield every name that may be a module of this package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _renamed(source: str) -> str:
    return re.sub(rf"^(\s*(?:from|import)) {PRODUCT}\b", rf"\1 {COPY}", source, flags=re.MULTILINE)
