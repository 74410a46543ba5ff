"""Each script of examples/ runs, on speech that is given and without any; so does the notebook, without Jupyter."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str | Path, folder: Path, *argv: object) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", EXAMPLES / name, *map(str, argv)], cwd=folder, capture_output=True, text=True,
        check=False, env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise_corpus(tmp_path_factory.mktemp("speech") / "speech", 4, 8, (0.5, 0.7), seed=3)


def test_there_is_a_test_of_each() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'run("{path.name}", ' not in here] == []


def test_features(speech: Path, tmp_path: Path) -> None:
    files = sorted(speech.glob("*/*.wav"))[:3]
    lines = run("features.py", tmp_path, *files).splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == [str(file) for file in files]
    rows = [list(map(float, line.split())) for line in lines[4:]]
    assert [rows[i][i] for i in range(3)] == [1.0, 1.0, 1.0] and rows[0][1] == rows[1][0]
    assert "cosine of their means" in run("features.py", tmp_path), "of synthetic voices"


def test_pretrain(speech: Path, tmp_path: Path) -> None:
    shown = run("pretrain.py", tmp_path, speech)
    assert "4 hidden states of (utterances, tokens, width) = (2, 34, 128)" in shown
    assert run("pretrain.py", tmp_path, speech).splitlines()[-2:] == shown.splitlines()[-2:], "nothing is left to do"


def test_probe(speech: Path, tmp_path: Path) -> None:
    shown = run("probe.py", tmp_path, speech)
    assert all(f"layer {layer}, {name}: " in shown for layer in range(4) for name in ("linear", "2-hidden"))
    assert (tmp_path / "result" / "examples" / "report" / "index.html").is_file()


def notebook() -> dict:
    return json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))


def test_the_notebook_is_executed_and_opens_in_colab(repository: Path) -> None:
    cells = notebook()["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    text = (EXAMPLES / "tour.ipynb").read_text(encoding="utf-8")
    assert len(text) < 300_000 and not re.search(r"(?:/work|/tmp|/root|/home)/", text)
    path = re.search(r"colab\.research\.google\.com/github/OWNER/s3prl-aalbert/blob/main/([\w/.]+)", text)
    assert path is not None and (repository / path[1]).is_file()


def test_the_notebooks_cells_run(tmp_path: Path) -> None:
    code = "\n".join("".join(cell["source"]) for cell in notebook()["cells"] if cell["cell_type"] == "code")
    (tmp_path / "tour.py").write_text(code, encoding="utf-8")
    shown = run(tmp_path / "tour.py", tmp_path)
    assert "40 files of 4 speakers" in shown and "(4, 43, 256)" in shown
    assert all(f"hidden state {layer}: " in shown for layer in range(4))
    assert "4 hidden states of (utterances, tokens, values) = (2, 34, 128)" in shown


def test_speakers(speech: Path, tmp_path: Path) -> None:
    of_features, of_model = run("speakers.py", tmp_path, speech).splitlines()
    assert of_features.startswith("aalbert_features: ") and of_model.startswith("aalbert_tiny: ")
    assert of_model.endswith("of 32 utterances, 4 speakers")
