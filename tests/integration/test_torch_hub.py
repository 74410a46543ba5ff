"""torch.hub in a process that has neither this package installed nor s3prl nor any audio or training library."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

from naming import mentions

# What a torch.hub user does not have; the child process cannot find any of them.
ABSENT = (
    "s3prl",
    "soundfile",
    "timm",
    "lightning_fabric",
    "sklearn",
    "matplotlib",
    "tqdm",
    "tensorboard",
    "tensorboardX",
    "huggingface_hub",
    "transformers",
    "librosa",
)

HIDE = """
import sys

class Hiding:
    'A finder that does not know some packages, as if they were not installed.'

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

ABSENT = set(%r)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


def run_without(absent: tuple[str, ...], code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code with some packages unimportable and this package not installed (-S reads no .pth files)."""
    site = [sysconfig.get_paths()[key] for key in ("purelib", "platlib")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(site)),
        "TORCH_HOME": str(folder / "torch_home"),
    }
    script = folder / "script.py"
    script.write_text(HIDE % (absent,) + textwrap.dedent(code), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-S", str(script)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
        check=False,
    )


def declared_dependencies(repository: Path) -> set[str]:
    """Read ``dependencies`` of the root hubconf.py without running it."""
    for node in ast.parse((repository / "hubconf.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "dependencies":
            return set(ast.literal_eval(node.value))
    raise AssertionError("hubconf.py names no dependencies")


def test_list_help_and_load(repository: Path, tiny_release: Path, tmp_path: Path) -> None:
    weights = tiny_release / "model.safetensors"
    url = f"{weights.as_uri()}#sha256={hashlib.sha256(weights.read_bytes()).hexdigest()}"
    code = f"""
    import ast, json, sys
    from pathlib import Path
    import torch
    repo, ckpt, url = {str(repository)!r}, {str(tiny_release)!r}, {url!r}
    model = torch.hub.load(repo, "aalbert_local", ckpt=ckpt, source="local").eval()
    assert repo not in sys.path  # torch.hub takes it away again: nothing of ours may be imported from here on
    wave = torch.sin(torch.arange(5000) / 20)
    with torch.no_grad():
        alone, batch = model([wave]), model([wave, wave[:700]])
        features = torch.hub.load(repo, "aalbert_features", source="local")([wave])
    debug = torch.hub.load(repo, "aalbert_3l", model_config="debug", source="local").eval()
    with torch.no_grad():
        untrained = debug([wave])
    downloaded = torch.hub.load(repo, "aalbert_url", ckpt=url, progress=False, source="local").eval()
    with torch.no_grad():
        same = torch.equal(downloaded([wave])["last_hidden_state"], alone["last_hidden_state"])
    control = torch.hub.load(repo, "aalbert_3l", pretrained=False, source="local")
    mistakes = []
    for name, arguments in (("aalbert_local", {{"ckpt": "missing.ckpt"}}), ("aalbert_6l", {{}})):
        try:
            torch.hub.load(repo, name, source="local", **arguments)
        except Exception as error:
            mistakes.append(f"{{type(error).__name__}}: {{error}}")
    torch.hub._get_cache_or_reload = lambda *_, **__: repo  # list and help know GitHub alone: show them the checkout
    imported = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "s3prl_aalbert":
            for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    imported.add(node.module.partition(".")[0])
    print(json.dumps({{
        "module": type(model).__module__,
        "file": sys.modules["s3prl_aalbert"].__file__,
        "shape": alone["last_hidden_state"].shape,
        "layers": len(alone["hidden_states"]),
        "rate": model.get_downsample_rates("hidden_states"),
        "error": float((alone["last_hidden_state"][0] - batch["last_hidden_state"][0]).abs().max()),
        "features": features["last_hidden_state"].shape,
        "untrained": untrained["last_hidden_state"].shape,
        "downloaded": same,
        "control": sum(weight.numel() for weight in control.parameters()),
        "mistakes": mistakes,
        "blocked": [name for name in ABSENT if name in sys.modules],
        "imported": sorted(imported - set(sys.stdlib_module_names) - {{"s3prl_aalbert"}}),
        "help": torch.hub.help("owner/name", "aalbert_local", trust_repo=True),
        "list": torch.hub.list("owner/name", trust_repo=True),
    }}))
    """
    done = run_without(ABSENT, code, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["module"] == "s3prl_aalbert.upstream.expert" and found["file"].startswith(str(repository))
    assert found["shape"] == [1, 11, 32] and found["layers"] == 4 and found["rate"] == 480
    assert found["error"] < 1e-5
    assert found["features"] == [1, 11, 480] and found["untrained"] == [1, 11, 32]
    assert found["downloaded"] is True and found["control"] == 7_458_816
    assert mentions(found["mistakes"][0], "CheckpointError: ", "missing.ckpt")
    assert found["mistakes"][1].startswith("AalbertError: aalbert_6l has no published weights; names that have: ")
    assert found["blocked"] == []
    assert set(found["imported"]) <= declared_dependencies(repository)  # else torch.hub could not name what is missing
    assert "ckpt: release folder" in found["help"]
    assert {"aalbert_local", "aalbert_url", "aalbert_features", "aalbert_6l", "aalbert_mockingjay_12l"} <= set(
        found["list"]
    )
