"""The tables of docs/results/paper_at_laptop_size.md: means of the recorded rows, and differences paired seed by seed.

    python benchmarks/laptop_page.py                                  # of the recorded rows
    python benchmarks/laptop_page.py --rows result/sweep_small/rows.csv

Errors are standard errors over the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from commands import exit_code
from tables import markdown_head, markdown_line

from s3prl_aalbert.experiments.recorded import RECORDED, Row, read_rows

Rows = dict[tuple[str, str], Row]
"""By TASK/SETTING/MODEL and metric."""
UNTRAINED = "untrained_6l"
SHARED = {"aalbert_3l": "291,968", "aalbert_6l": "291,968", "aalbert_12l": "291,968"}
UNSHARED = {"mockingjay_3l": "688,512", "mockingjay_6l": "1,283,328", "mockingjay_12l": "2,472,960"}
MODELS = SHARED | UNSHARED
"""Parameters of encoder and input block."""
TASKS = {
    "phone/weighted_sum": "phones, weighted sum",
    "phone_fine_tuned/last_layer": "phones, fine-tuned",
    "speaker_utterance/weighted_sum": "speakers, utterance",
    "speaker_frame/weighted_sum": "speakers, frame",
}
PROPORTIONS = {"_12_5_percent": "12.5 %", "_25_percent": "25 %", "_50_percent": "50 %", "": "100 %"}
LAYERS = range(7)
PROBES = {("phone", "1-hidden"): "phones, one hidden layer", ("speaker", "linear"): "speakers, linear"}
FEATURES = {"features": "input features", "features_without_cmvn": "the same without CMVN"}


def mean(row: Row | None) -> str:
    """Return mean ± standard error; nothing where nothing was run."""
    return row.shown() if row else ""


def less(row: Row | None, other: Row | None) -> str:
    """Return the paired difference ± its standard error; nothing where one of them was not run."""
    return row.less(other).shown(sign=True) if row and other else ""


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join([*markdown_head(heads), *map(markdown_line, lines)])


def accuracies(rows: Rows) -> str:
    """Return the accuracy of every model in every task."""

    def line(name: str, parameters: str, model: str, settings: Iterable[str]) -> list[str]:
        return [name, parameters, *(mean(rows.get((f"{setting}/{model}", "accuracy"))) for setting in settings)]

    features = [f"{setting.split('/')[0]}/features" for setting in TASKS]
    lines = [line(label, "", name, features) for name, label in FEATURES.items()]
    lines.append(line("untrained, 6 layers", SHARED["aalbert_6l"], UNTRAINED, TASKS))
    return table(["", "parameters", *TASKS.values()], lines + [line(m, n, m, TASKS) for m, n in MODELS.items()])


def paired(rows: Rows) -> str:
    """Return differences: from the controls, of shared from unshared layers, and of twelve layers from six."""

    def input_of(setting: str) -> str:
        task = setting.split("/")[0]
        return "phone/features/features" if task.startswith("phone") else f"{task}/features/features_without_cmvn"

    def line(model: str, other: str, baselines: Iterable[str]) -> list[str]:
        pairs = zip((f"{setting}/{model}" for setting in TASKS), baselines, strict=True)
        return [f"{model} less {other}", *(less(*(rows.get((name, "accuracy")) for name in pair)) for pair in pairs)]

    twins = [*zip(SHARED, UNSHARED, strict=True), ("aalbert_12l", "aalbert_6l"), ("mockingjay_12l", "mockingjay_6l")]
    lines = [line(model, "untrained", (f"{setting}/{UNTRAINED}" for setting in TASKS)) for model in MODELS]
    lines += [line(model, "input features", map(input_of, TASKS)) for model in MODELS]
    lines += [line(model, other, (f"{setting}/{other}" for setting in TASKS)) for model, other in twins]
    return table(["", *TASKS.values()], lines)


def proportions(rows: Rows) -> str:
    """Return phone accuracy by the share of the labels."""
    baseline = [rows.get((f"phone/features{p}/features", "accuracy")) for p in PROPORTIONS]
    lines = [["input features", *map(mean, baseline)]]
    for model in ("aalbert_6l", "mockingjay_6l"):
        for setting, label in (("phone/weighted_sum", "weighted sum"), ("phone_fine_tuned/last_layer", "fine-tuned")):
            own = [rows.get((f"{setting}{p}/{model}", "accuracy")) for p in PROPORTIONS]
            lines.append([f"{model}, {label}", *map(mean, own)])
            lines.append(["less input features", *map(less, own, baseline)])
    return table(["", *PROPORTIONS.values()], lines)


def layers(rows: Rows) -> str:
    """Return the accuracy of every layer alone."""
    lines = []
    for (task, classifier), label in PROBES.items():
        lines.append([f"**{label}**", *[""] * len(LAYERS)])
        for model in (UNTRAINED, "aalbert_6l", "mockingjay_6l"):
            found = [rows.get((f"probe/layers/{model}", f"{task}, layer {i}, {classifier}")) for i in LAYERS]
            lines.append([model, *map(mean, found)])
            if model != UNTRAINED:
                lines.append(["less its last layer", *(less(row, found[-1]) for row in found[:-1]), ""])
        features = rows.get(("probe/layers/features", f"{task}, layer 0, {classifier}"))
        lines.append(["input features", mean(features), *[""] * (len(LAYERS) - 1)])
    return table(["", "input embedding", *map(str, LAYERS[1:])], lines)


def phone_errors(rows: Rows) -> str:
    """Return the phone errors of sequences."""
    settings = ("phone/weighted_sum", "phone_fine_tuned/last_layer")
    lines = [[label, mean(rows.get((f"phone/features/{name}", "phone error"))), ""] for name, label in FEATURES.items()]
    for model in (UNTRAINED, *MODELS):
        lines.append([model, *(mean(rows.get((f"{setting}/{model}", "phone error"))) for setting in settings)])
    return table(["phone error after collapsing repeats (%)", "weighted sum", "fine-tuned"], lines)


def tables(path: Path) -> list[str]:
    """Return the page's tables."""
    rows = {(row.row, row.metric): row for row in read_rows(path)}
    return [build(rows) for build in (accuracies, paired, proportions, layers, phone_errors)]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=RECORDED / "small.csv", help="rows.csv of a sweep")
    print("\n\n".join(tables(parser.parse_args().rows)))


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
