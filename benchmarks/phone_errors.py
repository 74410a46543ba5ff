"""Phone errors of S3PRL's ``ctc`` by speaker, of several evaluated runs, and their differences to the first.

    python benchmarks/phone_errors.py result/downstream/pr_features result/downstream/pr --out phone_errors.csv

Reads what ``aalbert downstream -m evaluate -t test`` left in each run: test-hyp.ark and test-ref.ark. A speaker's error
is insertions, deletions and substitutions over the phones of all the speaker's references; means over speakers with
their standard error, differences paired by speaker.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from commands import exit_code
from torchaudio.functional import edit_distance

from s3prl_aalbert.downstream.paired import differences, percent
from s3prl_aalbert.errors import AalbertError


def read_phones(file: Path) -> dict[str, list[str]]:
    """Return the phones of each utterance."""
    if not file.is_file():
        raise AalbertError(f"{file}: no such file; evaluate the run first (aalbert downstream -m evaluate -t test)")
    lines = file.read_text(encoding="utf-8").splitlines()
    return {name: phones for name, *phones in (line.split() for line in lines if line.strip())}


def speaker_errors(run: Path) -> dict[str, float]:
    """Return the phone error of each speaker of a run's test.

    Raises:
        AalbertError: the run is not evaluated, or its two files are of other utterances.
    """
    hypotheses, references = read_phones(run / "test-hyp.ark"), read_phones(run / "test-ref.ark")
    if hypotheses.keys() != references.keys():
        raise AalbertError(
            f"{run}: test-hyp.ark and test-ref.ark hold other utterances ({len(hypotheses)}, {len(references)})"
        )
    edits: Counter[str] = Counter()
    phones: Counter[str] = Counter()
    for name, reference in references.items():
        speaker = name.partition("-")[0]
        edits[speaker] += edit_distance(hypotheses[name], reference)
        phones[speaker] += len(reference)
    return {speaker: edits[speaker] / count for speaker, count in sorted(phones.items())}


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each run, and write every speaker's error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of evaluated runs; the first is the baseline")
    parser.add_argument("--out", type=Path, help="CSV: run, speaker, error")
    args = parser.parse_args(argv)
    errors = {run: speaker_errors(run) for run in args.runs}
    baseline = errors[args.runs[0]]
    for run, found in errors.items():
        less = f", less the first {percent(differences(found, baseline), sign=True)}" if found is not baseline else ""
        print(f"{run.name}: {percent(found)} %{less}")
    if args.out:
        with args.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["run", "speaker", "error"])
            for run, found in errors.items():
                writer.writerows([run.name, speaker, f"{error:.6f}"] for speaker, error in found.items())
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
