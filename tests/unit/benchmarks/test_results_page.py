"""benchmarks/results_page.py: RESULTS.md shows what is recorded, and the commands behind it exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import results_page

from s3prl_aalbert.cli import command_parser
from s3prl_aalbert.errors import AalbertError
from s3prl_aalbert.files import write_text


def test_results_md_shows_the_recorded_values(repository: Path) -> None:
    text = (repository / "RESULTS.md").read_text(encoding="utf-8")
    for table in results_page.tables(results_page.RESULTS).split("\n\n"):
        assert table in text


def test_values_of_every_kind_by_hand(tmp_path: Path) -> None:
    head = "upstream,selection,layer,condition,speaker,speaker_of_x,error\n"
    rows = (
        "x,h,3,across,a,b,0.1\nx,h,3,across,a,c,0.3\nx,h,3,within,a,a,0.9\nx,h,1,across,a,b,0.9\nx,h,3,across,b,a,nan\n"
    )
    write_text(tmp_path / "abx_aalbert_units.csv", head + rows)
    assert results_page.abx(tmp_path, "aalbert_units", "across") == pytest.approx(
        {"a": 0.2, "b": 0, "c": 0.4}, abs=1e-9
    )
    assert results_page.abx(tmp_path, "aalbert_units", "within") == {"a": 0.9}
    head = "model,layer,classifier,utterances,seconds,split,speaker,correct,count\n"
    rows = (
        "aalbert_units,3,frame,30,4,0,a,1,2\naalbert_units,3,frame,30,4,1,a,2,2\naalbert_units,1,frame,30,4,0,a,0,9\n"
    )
    write_text(tmp_path / "speakers.csv", head + rows)
    assert results_page.classified(tmp_path, "aalbert_units", "speakers.csv", "frame") == {"a": 0.75}
    head = "model,layer,classifier,folds,labels,speaker,correct,count\n"
    rows = "aalbert_features,0,linear,speakers,grid,a,1,4\naalbert_features,0,linear,4,token,a,9,9\n"
    write_text(tmp_path / "phones.csv", head + rows)
    assert results_page.classified(tmp_path, "features", "phones.csv", "linear") == {"a": 0.25}
    write_text(tmp_path / "phone_errors.csv", "run,speaker,error\nfeatures,a,0.5\nuntrained_aalbert_units,a,0.25\n")
    assert results_page.recognised(tmp_path, "untrained aalbert_units") == {"a": 0.25}


def test_every_command_is_one_of_the_project(tmp_path: Path, repository: Path) -> None:
    import importlib

    for step in results_page.steps(tmp_path / "data", tmp_path / "out"):
        name, *options = step.command
        if name.endswith(".py"):
            assert (repository / name).is_file()
        elif name != "downstream":  # whose options are S3PRL's
            module = importlib.import_module(f"s3prl_aalbert.commands.{name}")
            command_parser(name, module).parse_args(options)


def test_small_sets_are_links_to_some_utterances_with_their_transcripts(tmp_path: Path) -> None:
    for name in ("train-clean-5", "dev-clean", "test-clean"):
        folder = tmp_path / "data" / name / "1" / "2"
        folder.mkdir(parents=True)
        for number in range(19):
            (folder / f"1-2-{number:04}.flac").touch()
        (folder / "1-2.trans.txt").touch()
    for _ in range(2):
        results_page.link_small_sets(tmp_path / "data", tmp_path / "sets")
    names = {each.name for each in (tmp_path / "sets" / "dev-clean").rglob("*.*")}
    assert names == {"1-2-0000.flac", "1-2-0009.flac", "1-2-0018.flac", "1-2.trans.txt"}
    assert len(list((tmp_path / "sets" / "test-clean").rglob("*.flac"))) == 4
    with pytest.raises(AalbertError, match=r"dev-clean.*\.flac"):
        results_page.link_small_sets(tmp_path / "empty", tmp_path / "other")


def test_a_step_runs_once_and_a_failed_one_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    for _ in range(2):
        results_page.run(results_page.Step(tmp_path / "done", ["--version"]), log)
    assert log.read_text().count("aalbert") == 1 and (tmp_path / "done").exists()
    with pytest.raises(AalbertError, match=r"no-such-command.* 2.*log\.txt"):
        results_page.run(results_page.Step(tmp_path / "other", ["no-such-command"]), log)
    assert not (tmp_path / "other").exists()
