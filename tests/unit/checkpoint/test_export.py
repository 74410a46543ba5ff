"""The folder for S3PRL's Hugging Face hub, used in processes where this package cannot be imported."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from naming import mentions
from torch import Tensor

from s3prl_aalbert import cli
from s3prl_aalbert.checkpoint.published import packaged_folder
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.checkpoint.training_state import save_training_state
from s3prl_aalbert.model.config import AudioConfig, ModelConfig, TransformerConfig, load_model_config, to_dict
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.model.sub_network import Architecture, architecture_yaml
from s3prl_aalbert.pretrain.config import PretrainConfig
from s3prl_aalbert.speech.training_list import TRAINING_LIST_FILE
from s3prl_aalbert.submission.huggingface_folder import REQUIREMENTS, copied_sources, write_folder
from s3prl_aalbert.upstream.expert import UpstreamExpert

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
CONFIGS = {
    "shared": ModelConfig(TransformerConfig(**SIZES), AudioConfig(num_mel_bins=20)),
    "unshared": ModelConfig(TransformerConfig(share_layer=False, **SIZES), AudioConfig(num_mel_bins=20)),
    "every option": ModelConfig(
        TransformerConfig(
            layer_groups=(0, 1, 0),
            reuse_pattern=(0, 0, 1),
            embedding_size=16,
            attention_head_size=12,
            position_encoding_size=48,
            layer_attention_heads=(3, 4, 2),
            layer_intermediate_sizes=(64, 32, 48),
            **SIZES,
        ),
        AudioConfig(num_mel_bins=20, front_end="s3prl", target_level_db=-25.0, n_fft=400),
    ),
}
ARCH = Architecture(hidden_size=24, num_attention_heads=(2, 4), intermediate_size=(32, 64))

# Loads exported folders one after the other and compares their hidden states, bit for bit.
CHILD = """
import importlib.util
import json
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("s3prl_aalbert", "s3prl", "soundfile", "huggingface_hub", "timm"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch

torch.set_num_threads(int(sys.argv[1]))

def load(folder):
    spec = importlib.util.spec_from_file_location("expert", folder + "/expert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.UpstreamExpert

found = {}
for case in json.load(sys.stdin):
    expert = load(case["folder"])(**case["arguments"]).eval()
    wavs, expected = torch.load(case["expected"])
    with torch.no_grad():
        states = expert(wavs)
    same = all(map(torch.equal, states["hidden_states"], expected)) and len(states["hidden_states"]) == len(expected)
    last = torch.equal(states["last_hidden_state"], expected[-1]) and len(states["layer_states"]) == len(expected) - 1
    found[case["name"]] = [same and last, expert.get_downsample_rates("hidden_states")]
print(json.dumps(found))
"""


def release(folder: Path, config: ModelConfig, card: str = "# A model\n", **info: object) -> Path:
    torch.manual_seed(0)
    save_release(folder, config, MaskedPrediction(config).state_dict(), card, {"step": 7, **info})
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release and an exported folder of every configuration."""
    place = tmp_path_factory.mktemp("exported")
    for name, config in CONFIGS.items():
        write_folder(load_checkpoint(release(place / "releases" / name, config)), place / name)
    (place / "arch.yaml").write_text(architecture_yaml(ARCH))
    return place


def link_like_the_hubs_cache(folder: Path, cache: Path) -> Path:
    """Lay a folder out as huggingface_hub keeps it: links in snapshots/COMMIT to files in blobs."""
    snapshot, blobs = cache / "snapshots" / ("0" * 40), cache / "blobs"
    blobs.mkdir(parents=True)
    for path in folder.rglob("*"):
        if path.is_file():
            blob = blobs / hashlib.sha256(path.read_bytes() + path.name.encode()).hexdigest()
            blob.write_bytes(path.read_bytes())
            link = snapshot / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_the_folder_gives_the_same_hidden_states_without_this_package(
    place: Path, awkward_wavs: dict[str, Tensor], tmp_path: Path
) -> None:
    wavs = list(awkward_wavs.values())
    snapshot = link_like_the_hubs_cache(place / "shared", tmp_path / "cache")
    arch = {"ckpt": str(place / "shared" / "model.safetensors"), "model_config": str(place / "arch.yaml")}
    s3prls = {"ckpt": str(snapshot / "model.pt"), "model_config": None, "refresh": False}
    cases = [
        ("from the cache", snapshot, "shared", s3prls),
        ("sub-network", place / "shared", "shared", arch),
        *((name, place / name, name, {}) for name in CONFIGS),
    ]
    listed = []
    for number, (name, folder, config, arguments) in enumerate(cases):
        ours = UpstreamExpert(str(place / "releases" / config), arguments.get("model_config")).eval()
        with torch.no_grad():
            torch.save((wavs, ours(wavs)["hidden_states"]), tmp_path / f"{number}.pt")
        expected = str(tmp_path / f"{number}.pt")
        listed.append({"name": name, "folder": str(folder), "arguments": arguments, "expected": expected})
    (tmp_path / "child.py").write_text(textwrap.dedent(CHILD))
    done = subprocess.run(
        [sys.executable, "child.py", str(torch.get_num_threads())],
        input=json.dumps(listed), cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {name: [True, 480] for name, *_ in cases}, "all in one process, each with its own code"


def test_every_import_of_the_copies_is_a_copy_or_required(place: Path, repository: Path) -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in (place / "shared").rglob("*.py")}
    imported = set()
    for source in sources.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                imported.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
            elif isinstance(node, ast.ImportFrom):
                assert f"{node.module}.py" in sources, "side by side"
    lines = (place / "shared" / "requirements.txt").read_text().splitlines()
    required = {re.split(r"[<>=]", line)[0].replace("pyyaml", "yaml") for line in lines}
    assert imported - set(sys.stdlib_module_names) == required | {"transformers"}, "which AutoModel alone needs"
    declared = set(re.findall(r'^  "([^"]+)",', (repository / "pyproject.toml").read_text(), flags=re.MULTILINE))
    assert set(lines) == set(REQUIREMENTS) <= declared, "as the package itself requires them"


def test_the_copies_are_our_sources_but_for_their_imports(repository: Path) -> None:
    ours = {path.read_text(encoding="utf-8").splitlines()[0]: path for path in repository.glob("s3prl_aalbert/**/*.py")}
    for path, source in copied_sources().items():
        lines = source.splitlines()[2:]
        own = ours[lines[0]].read_text(encoding="utf-8").splitlines()
        changed = [line for line, before in zip(lines, own, strict=False) if line != before]
        assert all(re.match(r"\s*from \.aalbert_", line) for line in changed), changed
        assert len(lines) == len(own) or path == "modeling_aalbert.py"


def test_the_folder_is_a_release_without_the_head(place: Path) -> None:
    folder = place / "every option"
    checkpoint = load_checkpoint(folder)
    assert checkpoint.config == CONFIGS["every option"] and checkpoint.info["step"] == 7
    assert checkpoint.state and all(name.startswith("model.") for name in checkpoint.state)
    config = json.loads((folder / "config.json").read_text())
    assert {key: config[key] for key in ("transformer", "audio", "task")} == json.loads(
        json.dumps(to_dict(CONFIGS["every option"]))
    )


# --------------------------------------------------------------------------------------------------- card


def card_of(folder: Path) -> tuple[dict, str, dict[str, str]]:
    """Return a card's front matter, its text, and the rows of its table of figures."""
    _, metadata, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    rows = re.findall(r"^\| ([^|]+) \| (.+) \|$", text.split("## Figures")[1], flags=re.MULTILINE)
    return yaml.safe_load(metadata), text, dict(rows)


def test_the_card_of_the_papers_model(tmp_path: Path) -> None:
    """SPEC: AALBERT-3L has 7,458,816 parameters and costs 0.80 GMAC per second of audio."""
    own = (
        "# AALBERT-3L\n\nUse it with S3PRL: `aalbert downstream -m train -u aalbert_local -k THIS_FOLDER -d x -n y`.\n"
    )
    source = release(tmp_path / "release", load_model_config("aalbert_3l"), own, corpus="300 utterances, 3 h")
    assert cli.main(["export", str(source), str(tmp_path / "out"), "--licence", "cc-by-4.0"]) == 0
    metadata, text, rows = card_of(tmp_path / "out")
    assert metadata["license"] == "cc-by-4.0" and "s3prl" in metadata["tags"]
    assert text.lstrip().startswith("# AALBERT-3L") and text.count("-k THIS_FOLDER -d") == 1
    assert rows["parameters"].startswith("7,458,816 ")
    assert float(rows["multiply-accumulates"].split()[0]) == pytest.approx(0.80, abs=0.02)
    assert rows["training steps"] == "7" and rows["training data"] == "300 utterances, 3 h"
    assert rows["licence of the weights"] == "cc-by-4.0" and rows["licence of the code"] == "Apache-2.0"


def test_a_licence_in_the_models_own_card_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = release(tmp_path / "release", CONFIGS["shared"], "---\nlicense: mit\ndatasets: [mine]\n---\n\n# Mine\n")
    assert cli.main(["export", str(source), str(tmp_path / "out")]) == 0
    metadata, text, rows = card_of(tmp_path / "out")
    assert metadata["license"] == "mit" and metadata["datasets"] == ["mine"] and "# Mine" in text
    assert rows["licence of the weights"] == "mit"
    again = tmp_path / "again"
    assert cli.main(["export", str(tmp_path / "out"), str(again)]) == 0  # from what users download
    assert card_of(again)[2]["licence of the weights"] == "mit"
    assert card_of(again)[1].count("## Figures") == card_of(again)[1].count("## Use") == 1
    assert "no --licence given" in caplog.text


@pytest.mark.parametrize("given", [[], ["--licence", "cc-by-4.0"]])
@pytest.mark.parametrize("own", ["", "| licence | that of the original |\n", "| licence of the weights | mit |\n"])
def test_a_card_states_one_licence_of_the_weights(tmp_path: Path, own: str, given: list[str]) -> None:
    source = release(tmp_path / "release", CONFIGS["shared"], f"# Mine\n\n| | |\n|---|---|\n| layers | 3 |\n{own}")
    assert cli.main(["export", str(source), str(tmp_path / "out"), *given]) == 0
    metadata, text, _ = card_of(tmp_path / "out")
    rows = [line for line in text.splitlines() if line.startswith("| licence") and "code" not in line]
    assert "| layers | 3 |" in text and metadata.get("license") == (given[1] if given else None)
    expected = own.strip() or "| licence of the weights | not stated: ask the author |"
    assert rows == ["| licence of the weights | cc-by-4.0 |" if given else expected]


@pytest.mark.parametrize("name", ["aalbert_units", "aalbert_tiny"])
def test_the_card_of_a_packaged_model_keeps_its_licence(name: str, tmp_path: Path) -> None:
    assert cli.main(["export", name, str(tmp_path / "out")]) == 0
    metadata, text, rows = card_of(tmp_path / "out")
    assert metadata["license"] == "apache-2.0" and "licence of the weights" not in rows
    assert len(re.findall(r"^\| licence \| Apache-2.0\.", text, flags=re.MULTILINE)) == 1
    assert "RESULTS.md" in text and not re.search(r"\]\((?!https?:|#)", text), "links to files that are elsewhere"
    lists = [folder / TRAINING_LIST_FILE for folder in (packaged_folder(name), tmp_path / "out")]
    assert lists[0].read_text() == lists[1].read_text()


def test_without_any_licence_the_card_says_so(tmp_path: Path) -> None:
    source = release(tmp_path / "release", CONFIGS["shared"])
    assert cli.main(["export", str(source), str(tmp_path / "out")]) == 0
    metadata, _, rows = card_of(tmp_path / "out")
    assert "license" not in metadata and rows["licence of the weights"].startswith("not stated")


def test_the_card_of_a_training_state_tells_how_it_was_trained(tmp_path: Path) -> None:
    config = CONFIGS["unshared"]
    pretraining = PretrainConfig()
    pretraining = replace(pretraining, optimizer=replace(pretraining.optimizer, name="Lamb", lr=3e-4))
    state = {
        "step": 1234,
        "seed": 5,
        "best_dev": 0.4321,
        "pretrain_config": to_dict(pretraining),
        "model": MaskedPrediction(config).state_dict(),
    }
    save_training_state(tmp_path / "states-1234.ckpt", config, state)
    assert cli.main(["export", str(tmp_path / "states-1234.ckpt"), str(tmp_path / "out")]) == 0
    _, text, rows = card_of(tmp_path / "out")
    assert "# Mockingjay-3L, hidden size 32" in text and "Lamb, peak learning rate 0.0003" in text
    assert "0.4321" in text and rows["training steps"] == "1,234"


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("card", [b"---\nlicense: [cc\n---\n# x", b"---\n- a\n- b\n---\n# x", b"# Kaf\xe9"])
@pytest.mark.parametrize("form", ["huggingface", "torch"])
def test_a_card_that_cannot_be_read_leaves_nothing_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], card: bytes, form: str
) -> None:
    source = release(tmp_path / "release", CONFIGS["shared"])
    (source / "README.md").write_bytes(card)
    assert cli.main(["export", str(source), str(tmp_path / "out"), "--format", form]) == 2
    assert mentions(capsys.readouterr().err, "README.md", "model card")
    assert not (tmp_path / "out").exists()


def test_a_model_whose_step_is_not_known_is_exported(tmp_path: Path) -> None:
    """As releases are that were converted from checkpoints without one."""
    config = CONFIGS["shared"]
    save_release(tmp_path / "release", config, MaskedPrediction(config).state_dict(), "# A model\n", {})
    assert cli.main(["export", str(tmp_path / "release"), str(tmp_path / "out")]) == 0
    wav = torch.zeros(8000)
    exported = UpstreamExpert(str(tmp_path / "out")).eval()([wav])["last_hidden_state"]
    assert torch.equal(exported, UpstreamExpert(str(tmp_path / "release")).eval()([wav])["last_hidden_state"])


def test_mistakes_are_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = release(tmp_path / "release", CONFIGS["shared"])
    (tmp_path / "file").write_text("x")
    mistakes = {
        ("missing", "out"): tmp_path / "missing",
        ("file", "out"): tmp_path / "file",
        ("release", "file"): tmp_path / "file",
        ("release", "release"): tmp_path / "release",
    }
    for (checkpoint, folder), named in mistakes.items():
        assert cli.main(["export", str(tmp_path / checkpoint), str(tmp_path / folder)]) == 2
        assert mentions(capsys.readouterr().err, named)
    assert not (tmp_path / "out").exists() and (tmp_path / "file").read_text() == "x"
    # An empty folder will do.
    (tmp_path / "empty").mkdir()
    assert cli.main(["export", str(source), str(tmp_path / "empty")]) == 0
    assert cli.main(["export", str(source), str(tmp_path / "empty")]) == 2


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CONFIGS["shared"]
    state = {**MaskedPrediction(config).state_dict(), "model.encoder.extra": torch.zeros(1)}
    save_release(tmp_path / "release", config, state, "")
    for kind in ("huggingface", "torch"):
        assert cli.main(["export", str(tmp_path / "release"), str(tmp_path / "out"), "--format", kind]) == 2
        assert "encoder.extra" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
