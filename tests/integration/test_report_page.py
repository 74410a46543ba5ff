"""The report's page with every figure of the paper, opened in a real browser."""

from __future__ import annotations

import base64
import csv
import html
import io
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from naming import mentions
from report_runs import write_paper_grid
from torch.utils.tensorboard import SummaryWriter

from s3prl_aalbert.checkpoint.release import save_release
from s3prl_aalbert.checkpoint.training_state import save_training_state
from s3prl_aalbert.cli import main
from s3prl_aalbert.downstream.results import RunResults
from s3prl_aalbert.model.config import ModelConfig
from s3prl_aalbert.model.objective import MaskedPrediction
from s3prl_aalbert.report.style import COLOURS, Styles
from s3prl_aalbert.report.tsne import TsneRequest
from s3prl_aalbert.report.write import write_report
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus

FIGURES = {
    "accuracy_against_parameters": "Figure 2",
    "accuracy_against_labels": "Figure 3",
    "speakers": "Figure 4",
    "speaker_map": "Figure 5",
    "probing": "Figure 6",
    "layer_weights": "Learned layer weights",
    "confusion_phonemes": "Confusion matrix",
    "training_curves": "Training curves",
    "pretraining_curves": "Pre-training curves",
    "reconstruction_aalbert_3_shared_layers_of_32": "Reconstruction",
}


MODEL = "AALBERT, 6 shared layers of 768"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, tiny_config: ModelConfig) -> Path:
    """A report of the paper's whole grid with two seeds (made-up numbers) and of one tiny model (real pictures)."""
    root = tmp_path_factory.mktemp("report")
    write_paper_grid(root / "runs", seeds=2)
    speech = synthesise_corpus(root / "speech", num_speakers=3, utterances_per_speaker=4, seconds=(0.5, 0.7), seed=2)
    tiny = root / "runs" / "pretrain" / "tiny"
    torch.manual_seed(0)
    weights = MaskedPrediction(tiny_config).state_dict()
    save_release(tiny, tiny_config, weights, "# tiny\n", {"step": 7})
    rows = [f"{path}\tdev" for path in sorted(speech.rglob("*.wav"))]
    manifest = root / "shared.tsv"  # as in a sweep, whose runs share one
    manifest.write_text("path\tsplit\n" + "\n".join(rows) + "\n")
    settings = {"pretrain_expert": {"datarc": {"manifest": str(manifest)}}}
    save_training_state(tiny / "states-7.ckpt", tiny_config, {"model": weights, "pretrain_config": settings})
    writer = SummaryWriter(str(tiny))
    for step in range(1, 30):
        writer.add_scalar("pretrain/loss", 1 / step, step)
        writer.add_scalar("pretrain/lr", 1e-4 * step, step)
    writer.close()
    request = TsneRequest(tiny, (speech,), speakers=3, utterances=4)
    page = write_report([root / "runs"], root / "out", 'Sounds & "words" <1>', "Made-up numbers", request)
    return page.parent


def text_of(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


def test_every_figure_of_the_paper_is_there_as_picture_and_table(report: Path) -> None:
    assert {path.stem for path in (report / "figures").glob("*.png")} == set(FIGURES)
    assert {path.stem for path in (report / "figures").glob("*.csv")} == set(FIGURES)
    page = text_of(report)
    for name, words in FIGURES.items():
        picture = imread(report / "figures" / f"{name}.png")
        assert picture.shape[0] > 300 and picture.shape[1] > 600 and picture[..., :3].std() > 0.02, name
        rows = list(csv.reader((report / "figures" / f"{name}.csv").open(encoding="utf-8")))
        assert len(rows) > 3 and len({len(row) for row in rows}) == 1, name
        assert f'<section id="{name}"' in page and words in page
    skipped = re.findall(r"<li>([^<]+)</li>", page.split('<section id="not-drawn"')[1])
    assert len(skipped) == 2 * 6, "pre-training curve and reconstruction of six models that have none"
    assert all(re.match(r"(Reconstruction|Pre-training curves)", line) for line in skipped)
    assert "Runs that were not used" not in page
    assert "mean over an utterance is zero" in page, "why the baseline with CMVN is at chance"


def test_numbers_are_those_of_the_runs(report: Path) -> None:
    rows = list(csv.DictReader((report / "results.csv").open(encoding="utf-8")))
    key = {"task": "phonemes", "model": MODEL, "setting": "weighted sum", "train_fraction": "0.05"}
    (row,) = (row for row in rows if key.items() <= row.items())
    folders = [report.parent / "runs" / "tasks" / f"phone-aalbert_6l-ws-0.05-{seed}" for seed in range(2)]
    best = [RunResults.read(folder).best for folder in folders]
    tests = [one.test["acc"] for one in best if one and one.test]
    error = statistics.stdev(tests) / 2**0.5
    assert [float(row["test_mean"]), float(row["test_error"])] == pytest.approx([statistics.fmean(tests), error])
    values = list(csv.DictReader((report / "values.csv").open(encoding="utf-8")))
    kept = [v for v in values if key.items() <= v.items() and (v["part"], v["metric"]) == ("test", "acc")]
    assert {value["seed"]: float(value["value"]) for value in kept} == dict(zip("01", tests, strict=True))


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_numpy_does_not_take_is_told(tmp_path: Path, seed: str, capsys: pytest.CaptureFixture) -> None:
    options = ["--tsne", str(tmp_path), "--speech", str(tmp_path), "-o", str(tmp_path / "out"), "--seed", seed]
    assert main(["report", str(tmp_path), *options]) == 2
    assert mentions(capsys.readouterr().err, f"--seed {seed}", 0, 4294967295)


def test_the_page_needs_nothing_else(report: Path) -> None:
    page = text_of(report)
    targets = re.findall(r'(?:src|href|srcset)="([^"]*)"', page)
    assert targets and all(target.startswith(("data:", "#")) for target in targets)
    assert not re.search(r"https?://|@import|url\(|<script", page)
    anchors = {target[1:] for target in targets if target.startswith("#")}
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))
    assert "<title>Sounds &amp; &quot;words&quot; &lt;1&gt;</title>" in page
    assert len(re.findall(r'<img [^>]*alt="[^"]{40,}"', page)) == len(FIGURES), "for those who cannot see them"


def test_the_page_explains_itself_and_gives_no_folder_away(report: Path) -> None:
    page = text_of(report)
    assert page.index('<section id="how-to-read"') < page.index('<section id="results"')
    texts = [page, *(path.read_text() for path in report.rglob("*.csv") if path.stem != "speaker_map")]
    assert all(str(report.parent) not in text for text in texts)
    captions = re.findall("<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == len(FIGURES) and all(
        re.match(r"The [^.;]* (shows?|sets|is|predicts) ", c) for c in captions
    )


def test_a_telephone_gets_pictures_and_tables_of_its_own(report: Path) -> None:
    page = text_of(report)
    narrow = re.findall(r'<source media="\(max-width: 600px\)" srcset="data:image/png;base64,([^"]*)"', page)
    widths = [imread(io.BytesIO(base64.b64decode(png))).shape[1] for png in narrow]
    assert len(widths) == len(FIGURES) and all(width < 900 for width in widths)
    results = page.split('<section id="results"')[1].split("</section>")[0]
    rows = results.count("<tr><td")
    assert rows == 12 + 3 * 8 + 1 and results.count('data-name="test accuracy&nbsp;%"') == rows


# Machado, Oliveira and Fernandes (2009), full severity, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def as_lab(linear: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear.clip(0, 1)
    x, y, z = np.cbrt((xyz / [0.9505, 1, 1.089]).clip(0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_readers_with_colour_blindness_tell_the_models_apart(kind: str) -> None:
    rgb = [np.array(to_rgb(colour)) for colour in COLOURS]
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in rgb]
    seen = [as_lab(np.array(BLINDNESS[kind]) @ c) for c in linear]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))
    assert nearest > 8, "just noticeable is 2.3"
    models = tuple(f"m{i}" for i in range(20))
    styles = Styles(models)
    assert len({tuple(styles.model(m).values()) for m in models}) == 20, "with a marker of its own, too"


# ------------------------------------------------------------------------------------------- in a browser

PROBE = """
<script>
const mistakes = [];
window.onerror = (message) => mistakes.push(String(message));
window.onload = () => {
  const images = [...document.images].map((i) => [i.complete, i.naturalWidth, i.clientWidth]);
  const requests = performance.getEntriesByType("resource").map((r) => r.name).filter((n) => !n.startsWith("data:"));
  const result = {images, requests, mistakes, wide: document.documentElement.scrollWidth, view: window.innerWidth};
  const pre = document.createElement("pre");
  pre.id = "probe";
  pre.textContent = JSON.stringify(result);
  document.body.append(pre);
};
</script></head>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no chromium or chrome on PATH: the page is not opened in a browser")


def run_browser(browser: str, folder: Path, url: Path, *options: str) -> subprocess.CompletedProcess[str]:
    flags = ["--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", f"--user-data-dir={folder / 'user'}"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    flags += ["--enable-logging=stderr", "--virtual-time-budget=8000"]
    command = [browser, *flags, *options, url.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)


@pytest.mark.parametrize("width", [1200, 600, 390])
def test_a_browser_shows_every_picture_and_asks_for_nothing(
    report: Path, browser: str, tmp_path: Path, width: int
) -> None:
    page = tmp_path / "page.html"
    page.write_text(text_of(report).replace("</head>", PROBE, 1), encoding="utf-8")
    done = run_browser(browser, tmp_path, page, f"--window-size={width},900", "--dump-dom")
    match = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert match, done.stdout[-500:]
    found: dict[str, Any] = json.loads(html.unescape(match.group(1)))
    assert len(found["images"]) == len(FIGURES)
    assert all(complete and natural > 600 and shown > 200 for complete, natural, shown in found["images"])
    assert found["requests"] == found["mistakes"] == []
    assert found["wide"] <= found["view"], "nothing sticks out at the side"
    assert "CONSOLE" not in done.stderr, done.stderr


def test_a_browser_draws_and_prints_it(report: Path, browser: str, tmp_path: Path) -> None:
    shot, paper = tmp_path / "shot.png", tmp_path / "page.pdf"
    done = run_browser(browser, tmp_path, report / "index.html", "--window-size=1200,3000", f"--screenshot={shot}")
    assert "CONSOLE" not in done.stderr
    picture = imread(shot)
    assert picture.shape[:2] == (3000, 1200)
    assert (picture[..., :3].std(axis=(1, 2)) > 0.01).mean() > 0.4, "not a blank page"
    run_browser(browser, tmp_path, report / "index.html", "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    content = paper.read_bytes()
    assert content.startswith(b"%PDF") and content.count(b"/Subtype /Image") >= len(FIGURES) - 1
