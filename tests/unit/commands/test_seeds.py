"""Seeds that no generator takes are refused in one sentence, by every command alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from naming import mentions

import s3prl_aalbert as aalbert
from s3prl_aalbert.cli import main
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.seeds import checked_seed


@pytest.mark.parametrize("seed", ["-1", str(1 << 63), str(1 << 64)])
@pytest.mark.parametrize(
    "command",
    [
        ("features", "{file}", "{out}", "--seed"),
        ("abx", "-u", "aalbert_3l", "--speech", "{file}", "--seed"),
        ("convert", "aalbert_tiny", "{out}", "--untrained"),
    ],
    ids=lambda command: command[0],
)
def test_a_seed_that_torch_does_not_take_is_told(
    command: tuple[str, ...], seed: str, tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([each.format(file=file, out=out) for each in command] + [seed]) == 2
    assert mentions(capsys.readouterr().err, f"{command[-1]} {seed}", 0, (1 << 63) - 1)
    assert not out.exists()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    import numpy as np
    import soundfile

    path = tmp_path / "speech" / "one.wav"
    path.parent.mkdir()
    soundfile.write(path, np.zeros(8000), 16000)
    return path


def test_a_model_is_not_loaded_with_such_a_seed() -> None:
    with pytest.raises(AalbertError, match="--seed -1: expected a whole number"):
        aalbert.load("aalbert_3l", seed=-1)


def test_a_seed_may_be_text_and_as_large_as_its_generator_takes() -> None:
    assert checked_seed("7") == 7 and checked_seed(255, 255) == 255
    with pytest.raises(AalbertError, match="--seed 256"):
        checked_seed(256, 255)
    with pytest.raises(AalbertError, match=r"--seed 1\.5"):
        checked_seed(1.5)
