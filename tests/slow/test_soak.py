"""Two thousand utterances of random length leave memory flat."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_thousand_utterances_leave_memory_flat(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "tests/soak.py")], capture_output=True, text=True, timeout=3600, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"^ *2000 utterances", done.stdout, re.MULTILINE)
