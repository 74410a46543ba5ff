"""Writes the folder for the Hugging Face Hub: a release with its code, so that this package need not be installed.

It serves transformers (``AutoModel.from_pretrained``, by ``modeling_aalbert.py``), S3PRL's ``run_downstream.py --hub
huggingface`` (by ``expert.py``) and this package (``-k DIR``). The code consists of copies of the modules that
inference needs, with relative imports. Results are therefore the same as with this package, and an installed version of
it is never mixed in.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from s3prl_aalbert import __version__
from s3prl_aalbert.checkpoint.interop.releases import keep_training_list
from s3prl_aalbert.checkpoint.release import MODEL_PREFIX, WEIGHTS_FILE, Checkpoint, save_release
from s3prl_aalbert.files import write_text
from s3prl_aalbert.model.config import SAMPLE_RATE, to_dict
from s3prl_aalbert.submission.card import exported_card
from s3prl_aalbert.upstream.expert import UpstreamExpert

PRODUCT, COPY = "s3prl_aalbert", "aalbert_"
EXPERT = UpstreamExpert.__module__
TRANSFORMERS = f"{PRODUCT}.upstream.transformers_model"
FILES = {TRANSFORMERS: "modeling_aalbert"}
"""Names of copies that are not ``aalbert_`` plus the module's name."""
S3PRLS_WEIGHTS = "model.pt"
"""S3PRL's default of --upstream_model_name: it passes this path whether or not the file exists."""
# Requirements of the copied modules, as in pyproject.toml.
REQUIREMENTS = ("torch>=2.8,<2.12", "torchaudio>=2.8,<2.11.1", "numpy", "pyyaml", "safetensors>=0.4")
HEADER = f"# SPDX-License-Identifier: Apache-2.0\n# From s3prl-aalbert {__version__}, copied by `aalbert convert`.\n"

UPSTREAM = f'''"""The upstream for S3PRL's `run_downstream.py --hub huggingface`; needs only requirements.txt."""

import hashlib
import importlib
import sys
import types
from pathlib import Path

FOLDER = Path(__file__).absolute().parent  # not resolved: the Hub's cache holds links to files elsewhere
package = types.ModuleType("aalbert_" + hashlib.sha256(str(FOLDER).encode()).hexdigest()[:12])
package.__path__ = [str(FOLDER)]  # the modules beside this one, under a package name that is unique to the folder
sys.modules[package.__name__] = package
expert = importlib.import_module(package.__name__ + ".{COPY}{EXPERT.removeprefix(PRODUCT + ".").replace(".", "_")}")


class UpstreamExpert(expert.UpstreamExpert):
    """AALBERT or Mockingjay: hidden states of a list of (num_samples,) waveforms at 16 kHz.

    Args:
        ckpt: the weights; {WEIGHTS_FILE} beside this file if not given, or if it is S3PRL's default {S3PRLS_WEIGHTS}.
        model_config: the YAML of a sub-network of a supernet (-g arch.yaml).
    """

    def __init__(self, ckpt=None, model_config=None, **options):
        if ckpt is None or Path(ckpt).name == "{S3PRLS_WEIGHTS}":
            ckpt = FOLDER / "{WEIGHTS_FILE}"
        super().__init__(ckpt=str(ckpt), model_config=model_config, **options)
'''

USAGE = """## Use

In S3PRL 0.4.18, with s3prl-aalbert installed (`pip install -e .` in a clone of it), from a copy of this folder:

```
aalbert downstream -m train -u aalbert_local -k THIS_FOLDER -d TASK -n EXPNAME
```

With transformers, and what requirements.txt lists:

```python
from transformers import AutoFeatureExtractor, AutoModel

model = AutoModel.from_pretrained("THIS_FOLDER", trust_remote_code=True)  # or USER/NAME of the Hub
extractor = AutoFeatureExtractor.from_pretrained("THIS_FOLDER")
batch = extractor([wav, other], sampling_rate=16000, padding=True, return_tensors="pt")  # arrays (num_samples,)
hidden_states = model(**batch, output_hidden_states=True).hidden_states  # input embedding and every layer
```

With torch alone, in this folder, and what requirements.txt lists:

```python
from expert import UpstreamExpert

hidden_states = UpstreamExpert().eval()([wav])["hidden_states"]  # wav: a tensor (num_samples,) at 16 kHz
```

S3PRL's own `run_downstream.py -m train --hub huggingface -u USER/NAME -d TASK -n EXPNAME` also reads this folder.
S3PRL 0.4.18 first logs in to the Hub with a user name and a password, which the Hub no longer accepts.
"""


def write_folder(checkpoint: Checkpoint, folder: Path, licence: str | None = None) -> None:
    """Write a release without its pre-training head, the code to use it, and what transformers reads.

    Args:
        checkpoint: any model of this project.
        folder: created if missing.
        licence: licence of the weights for the card; None keeps that of the model's own card.

    Raises:
        CheckpointError: the weights do not fit their configuration, or the folder cannot be written.
    """
    UpstreamExpert(ckpt=str(checkpoint.path))  # refuses a model that would fail at its first use
    card = exported_card(checkpoint, USAGE, licence)
    weights = {name: tensor for name, tensor in checkpoint.state.items() if name.startswith(MODEL_PREFIX)}
    save_release(folder, checkpoint.config, weights, card, checkpoint.info)
    keep_training_list(checkpoint, folder)
    for path, source in copied_sources().items():
        write_text(folder / path, source)
    write_text(folder / "expert.py", HEADER + UPSTREAM)
    write_text(folder / "requirements.txt", "\n".join(REQUIREMENTS) + "\n")
    for path, values in _transformers_files(checkpoint).items():
        write_text(folder / path, json.dumps(values, indent=2) + "\n")


def _transformers_files(checkpoint: Checkpoint) -> dict[str, dict[str, object]]:
    """Return the JSON files of AutoConfig, AutoModel and AutoFeatureExtractor, by name."""
    code = FILES[TRANSFORMERS]
    model = {
        "architectures": ["AalbertModel"],
        "auto_map": {"AutoConfig": f"{code}.AalbertConfig", "AutoModel": f"{code}.AalbertModel"},
        "model_type": "aalbert",
        "torch_dtype": "float32",  # 16-bit weights are computed in it
    }
    extractor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",  # it only pads; the model computes its own features
        "feature_size": 1,
        "sampling_rate": SAMPLE_RATE,
        "padding_value": 0.0,
        "do_normalize": False,
        "return_attention_mask": True,
    }
    return {"config.json": model | to_dict(checkpoint.config), "preprocessor_config.json": extractor}


def copied_sources() -> dict[str, str]:
    """Return the copies of the modules of inference and of all that they import from this package, by file."""
    sources: dict[str, str] = {}
    waiting = [EXPERT, TRANSFORMERS]
    while waiting:
        module = waiting.pop()
        found = None if module in sources else _source(module)
        if found is not None:
            sources[module] = found
            waiting += _imported_modules(found)
    copies = {f"{_copy_of(module)}.py": HEADER + _renamed(text) for module, text in sorted(sources.items())}
    # From a folder, transformers copies only the files that this one imports.
    named = [f"from .{_copy_of(module)} import __doc__ as _" for module in sorted(sources) if module != TRANSFORMERS]
    copies[f"{FILES[TRANSFORMERS]}.py"] += "\n" + "\n".join(named) + "\n"
    return copies


def _copy_of(module: str) -> str:
    return FILES.get(module, COPY + module.removeprefix(f"{PRODUCT}.").replace(".", "_"))


def _source(module: str) -> str | None:
    """Return the source of a module of this package; None for its sub-packages and for other names."""
    top, *parts = module.split(".")
    file = files(PRODUCT).joinpath("/".join(parts) + ".py") if top == PRODUCT and parts else None
    return file.read_text(encoding="utf-8") if file is not None and file.is_file() else None


def _imported_modules(source: str) -> Iterator[str]:
    """Yield every name that may be a module of this package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _renamed(source: str) -> str:
    """Return a source with its imports of this package made relative."""
    return re.sub(
        rf"^(\s*)from ({PRODUCT}[.\w]+) import",
        lambda found: f"{found[1]}from .{_copy_of(found[2])} import",
        source,
        flags=re.MULTILINE,
    )
