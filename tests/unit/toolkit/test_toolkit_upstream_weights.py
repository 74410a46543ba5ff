"""A task that goes on is refused another upstream than the one that it was trained on, and only then."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from naming import mentions, naming
from toolkit_runner import new_runner

from s3prl_aalbert.checkpoint.content import CheckpointError
from s3prl_aalbert.checkpoint.release import load_checkpoint, save_release
from s3prl_aalbert.downstream import features
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.toolkit.continuation import Training
from s3prl_aalbert.toolkit.resume import load_states
from s3prl_aalbert.toolkit.writing import Checkpoints


@pytest.fixture
def release(tmp_path: Path, tiny_release: Path) -> Path:
    """Return a release of its own for each test."""
    copied = load_checkpoint(tiny_release)
    save_release(tmp_path / "a", copied.config, copied.state, card="")
    return tmp_path / "a"


def train_on(release: Path) -> None:
    """Replace the weights of a release, as more pre-training in its folder does."""
    trained = load_checkpoint(release)
    state = {name: value + 0.01 if value.is_floating_point() else value for name, value in trained.state.items()}
    save_release(release, trained.config, state, card="")


def built(
    tmp_path: Path,
    upstream: str = "aalbert_local",
    ckpt: Path | None = None,
    override: str | None = None,
    trainable: bool = False,
    again: bool = True,
    **args: object,
) -> Any:
    """Return a runner with its upstream: of a new run, or of one that goes on from ``states-2.ckpt``."""
    runner = new_runner(upstream, trainable)
    past = str(tmp_path / "states-2.ckpt")
    going_on = {"past_exp": past, "init_ckpt": past} if again else {}
    vars(runner.args).update({"upstream_ckpt": ckpt and str(ckpt), "override": override, **going_on, **args})
    if again:
        runner.init_ckpt = load_states(Path(past), "-e")
    runner.upstream = runner._get_upstream()
    return runner


def save(runner: Any, tmp_path: Path) -> dict[str, object]:
    """Save a checkpoint as a training of the runner does, and return its content."""
    runner.downstream = argparse.Namespace(model=argparse.Namespace(get_dataloader=None))
    states = {"Upstream": runner.upstream.model.state_dict()} if runner.upstream.trainable else {}
    Training(runner, runner.upstream_weights).save({"Step": 2, **states}, str(tmp_path / "states-2.ckpt"))
    return dict(load_states(tmp_path / "states-2.ckpt", "-e"))


def test_other_weights_are_refused(tmp_path: Path, release: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(built(tmp_path, ckpt=release, again=False), tmp_path)
    save(built(tmp_path, ckpt=release), tmp_path)  # and goes on from what it saves itself
    built(tmp_path, ckpt=release)
    train_on(release)
    named = (str(tmp_path / "states-2.ckpt"), f"-k {release}", "-o args.upstream_ckpt=PATH", "other weights")
    for override in (None, "None", "config.runner.total_steps=9"):
        with pytest.raises(AalbertError, match=naming(*named)):
            built(tmp_path, ckpt=release, override=override)
    assert not caplog.records
    caplog.set_level(logging.WARNING)
    runner = built(tmp_path, ckpt=release, override=f"args.upstream_ckpt={release}")
    assert mentions(caplog.text, str(tmp_path / "states-2.ckpt"), str(release), "other weights")
    save(runner, tmp_path)  # a training goes on with these
    built(tmp_path, ckpt=release)


def test_the_same_weights_elsewhere_are_taken(tmp_path: Path, release: Path) -> None:
    save(built(tmp_path, ckpt=release, again=False), tmp_path)
    moved = release.rename(tmp_path / "b")
    built(tmp_path, ckpt=moved)


def test_a_new_run_from_the_weights_of_another_is_not_compared(tmp_path: Path, release: Path) -> None:
    save(built(tmp_path, ckpt=release, again=False), tmp_path)
    train_on(release)
    built(tmp_path, ckpt=release, past_exp=None)  # -i


def test_a_checkpoint_of_an_earlier_version_is_not_compared(tmp_path: Path, release: Path) -> None:
    content = save(built(tmp_path, ckpt=release, again=False), tmp_path)
    assert isinstance(content.pop("UpstreamWeights"), str)
    Checkpoints().save(content, str(tmp_path / "states-2.ckpt"))
    train_on(release)
    built(tmp_path, ckpt=release)
    Checkpoints().save({**content, "UpstreamWeights": 3}, str(tmp_path / "states-2.ckpt"))
    with pytest.raises(CheckpointError, match=naming("states-2.ckpt", "damaged", "UpstreamWeights")):
        built(tmp_path, ckpt=release)


def test_a_trained_upstream_is_in_the_checkpoint(tmp_path: Path, release: Path) -> None:
    content = save(built(tmp_path, ckpt=release, trainable=True, again=False), tmp_path)
    assert "UpstreamWeights" not in content
    train_on(release)
    built(tmp_path, ckpt=release, trainable=True)


@pytest.mark.parametrize("upstream", ["fbank", "mfcc", "mel", "aalbert_features"])
def test_an_upstream_without_weights_is_not_compared(
    tmp_path: Path, upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its filters may differ in the last bit between machines, and some of S3PRL's hold random noise."""
    monkeypatch.setattr(features, "content_digest", lambda *_: pytest.fail("nothing to compare"))
    assert "UpstreamWeights" not in save(built(tmp_path, upstream, again=False), tmp_path)
    built(tmp_path, upstream)


def test_untrained_weights_are_those_of_the_seed(tmp_path: Path) -> None:
    def seeded(seed: int, again: bool) -> Any:
        torch.manual_seed(seed)  # as S3PRL's main() does before it builds the runner
        return built(tmp_path, "aalbert_6l", upstream_model_config="debug", again=again)

    save(seeded(1, again=False), tmp_path)
    seeded(1, again=True)
    with pytest.raises(AalbertError, match=naming("-u aalbert_6l", "seed")):
        seeded(2, again=True)


def test_weights_are_hashed_once(tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(built(tmp_path, ckpt=release, again=False), tmp_path)
    digests: list[str] = []
    digest = features.content_digest

    def counted(*content: Any) -> str:
        digests.append(digest(*content))
        return digests[-1]

    monkeypatch.setattr(features, "content_digest", counted)
    runner = built(tmp_path, ckpt=release)
    for _ in range(2):
        save(runner, tmp_path)
    assert len(digests) == 1
