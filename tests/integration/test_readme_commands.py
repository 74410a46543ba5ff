"""Every `aalbert` command of the README runs as it is written, in its order, with a smaller model and fewer steps.

`make demo` is run by tests/slow/test_demo_command.py, and `make test` is what runs this.
"""

from __future__ import annotations

from pathlib import Path

from command_lines import REPOSITORY, commands_of, lay_out_speech, shorter, succeed


def shortened(command: list[str], checkpoint: Path) -> list[str]:
    """Put in what stands for the user's own (CKPT, FOLDER), and make a run short."""
    own = {
        "CKPT": [str(checkpoint)],
        "FOLDER...": ["data/LibriSpeech"],
        "LibriSpeech/dev-clean": ["data/LibriSpeech"],
        "aalbert_6l": ["debug"],
    }
    command = [word.replace("s3prl_aalbert/", f"{REPOSITORY}/s3prl_aalbert/") for word in command]
    words = [word for each in command for word in own.get(each, [each])]
    if "-c" not in words:
        return words
    if "-o" in words:
        words[words.index("-o") + 1] += f",,{shorter()}"
        return words
    return [*words, "-o", shorter(), "--device", "cpu"]


def test_they_run_in_their_order(tmp_path: Path, tiny_release: Path) -> None:
    lay_out_speech(tmp_path)
    runs = [shortened(command[1:], tiny_release) for command in commands_of("README.md") if command[0] == "aalbert"]
    assert {run[0] for run in runs} == {"doctor", "downstream", "probe", "report", "pretrain"}
    demo = tmp_path / "result" / "demo" / "speech"  # as `make demo` leaves it
    demo.mkdir(parents=True)
    (demo / "synthetic").symlink_to(tmp_path / "data" / "timit")
    succeed(runs, tmp_path)
    assert (tmp_path / "report" / "index.html").is_file()
    assert (tmp_path / "report" / "speakers" / "figures" / "speaker_map.png").is_file()
    assert (tmp_path / "result" / "pretrain" / "my_aalbert" / "model.safetensors").is_file()
