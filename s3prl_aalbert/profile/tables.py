"""Formats profiles and measurements as Markdown tables that are also readable in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from s3prl_aalbert.model import macs
from s3prl_aalbert.printable import markdown_cell
from s3prl_aalbert.profile.costs import Profile
from s3prl_aalbert.profile.speed import Speed

UNKNOWN = "-"


def cost_table(profiles: Sequence[Profile]) -> str:
    """Return one row per model: parameters, MACs per second of audio, and MACs by SUPERB's convention."""
    header = ("model", "parameters", "with head", "GMAC/s", "SUPERB GMACs", "SUPERB least-most GMAC/s")
    return markdown_table(header, [_cost_row(profile) for profile in profiles])


def _cost_row(profile: Profile) -> tuple[str, ...]:
    superb = profile.superb
    head = profile.parameters_with_head
    return (
        profile.name,
        f"{profile.parameters:,}",
        UNKNOWN if head is None else f"{head:,}",
        _giga(profile.macs),
        UNKNOWN if superb is None else f"{superb.total / 1e9:.1f}",
        UNKNOWN if superb is None else f"{_giga(superb.least)}-{_giga(superb.most)}",
    )


def module_table(profiles: Sequence[Profile]) -> str:
    """Return our models' MACs per second of audio in millions, one column per module."""
    header = ("MMAC/s", *macs.MODULES, "all")
    rows = [(p.name, *(f"{p.modules[m] / 1e6:.1f}" for m in macs.MODULES), f"{p.macs / 1e6:.1f}") for p in profiles]
    return markdown_table(header, rows)


def upstream_table(profile: Profile) -> str:
    """Return another upstream's MACs per second of audio in millions, one row per module of its own."""
    rows = [(name, f"{count / 1e6:.1f}") for name, count in profile.modules.items()]
    return markdown_table((f"module of {profile.name}", "MMAC/s"), [*rows, ("all", f"{profile.macs / 1e6:.1f}")])


def speed_table(speeds: Sequence[tuple[str, Sequence[Speed]]]) -> str:
    """Return one row per model and two columns per length: real-time factor and peak memory."""
    _, first = speeds[0]
    lengths = [speed.seconds for speed in first]
    header = ["model", *(f"RTF {seconds:g} s" for seconds in lengths), *(f"MiB {seconds:g} s" for seconds in lengths)]
    rows = []
    for name, measured in speeds:
        factors = [f"{speed.real_time_factor:.4f}" for speed in measured]
        memory = [UNKNOWN if speed.peak_mib is None else f"{speed.peak_mib:.0f}" for speed in measured]
        rows.append([name, *factors, *memory])
    return markdown_table(header, rows)


def _giga(count: float) -> str:
    return f"{count / 1e9:.2f}" if count >= 1e7 else f"{count / 1e9:.4f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns: the first to the left, numbers to the right."""
    table = [[markdown_cell(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [_line(row, widths) for row in table]
    rule = "|".join("-" * (width + 1) + ("-" if index == 0 else ":") for index, width in enumerate(widths))
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "| " + " | ".join(cells) + " |"
