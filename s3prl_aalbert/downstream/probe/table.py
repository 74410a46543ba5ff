"""Formats probes as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from s3prl_aalbert.downstream.result_tables import ProbeResult


def format_probes(probes: Sequence[ProbeResult]) -> str:
    """Return the test accuracy by layer and classifier, one block per task."""
    lines = []
    for task in dict.fromkeys(probe.task for probe in probes):
        own = [probe for probe in probes if probe.task == task]
        classifiers = list(dict.fromkeys(probe.classifier for probe in own))
        lines += ["", f"{task}: test accuracy (%) by hidden state; 0 is the input embedding of our models"]
        lines.append("layer  " + "  ".join(f"{name:>8}" for name in classifiers))
        for layer in dict.fromkeys(probe.layer for probe in own):
            found = {probe.classifier: probe.test_acc for probe in own if probe.layer == layer}
            cells = [found.get(name) for name in classifiers]
            values = [" " * 8 if value is None else f"{100 * value:8.2f}" for value in cells]
            lines.append(f"{layer:>5}  " + "  ".join(values))
    return "\n".join(lines)
