"""What the tests of the corpus share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s3prl_aalbert.pretrain import decoding


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names, without suffix, of the files that are decoded from now on in this process."""
    seen: list[str] = []
    original = decoding.read_audio

    def read(path: str, rate: int, notes: list[str]) -> np.ndarray:
        seen.append(Path(path).stem)
        return original(path, rate, notes)

    monkeypatch.setattr(decoding, "read_audio", read)
    return seen
