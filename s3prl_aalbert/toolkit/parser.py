"""Declares the options of S3PRL's ``run_downstream.py``, so that they can be parsed without importing it."""

from __future__ import annotations

import argparse

from s3prl_aalbert.parsing import Parser

PROGRAM = "aalbert downstream"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare S3PRL's options, without importing S3PRL."""
    _add_experiment(parser)
    _add_upstream(parser)
    add = parser.add_argument_group("machine and Hugging Face Hub").add_argument
    add("--seed", type=int, default=1337, help="default: %(default)s")
    add("--device", help="cuda or cpu; default: cuda if there is one")
    add("--backend", default="nccl", help="backend of torch.distributed; default: %(default)s")
    add("--local_rank", type=int, metavar="N", help="set by torchrun")
    add("--disable_cudnn", action="store_true", help="do not use cuDNN")
    add("--cache_dir", metavar="DIR", help="where S3PRL keeps downloaded checkpoints")
    add("--verbose", action="store_true", help="print the model, notes with time and origin, the trace of an error")
    add("--push_to_hf_hub", metavar="BOOL", help="upload the experiment folder at the end")
    add("--hf_hub_org", metavar="NAME", help="organisation to upload to")


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("experiment").add_argument
    add("-m", "--mode", choices=("train", "evaluate", "inference"), required=True, help="what to do")
    add("-d", "--downstream", metavar="NAME", help="task: aalbert_phone, aalbert_speaker_utterance, ... or S3PRL's")
    add("-v", "--downstream_variant", metavar="NAME", help="passed to tasks of S3PRL that have variants")
    add("-c", "--config", metavar="YAML", help="a path or a packaged name; default: the one of the task")
    add("-n", "--expname", metavar="NAME", help="save at result/downstream/NAME")
    add("-p", "--expdir", metavar="DIR", help="save at DIR")
    add("-a", "--auto_resume", action="store_true", help="resume if the experiment has a checkpoint")
    add("-e", "--past_exp", metavar="CKPT", help="checkpoint or folder to resume from or to evaluate")
    add("-i", "--init_ckpt", metavar="CKPT", help="load the weights of a finished experiment")
    add("-o", "--override", metavar="TEXT", help='e.g. "config.optimizer.lr=1e-3,,args.seed=7"')
    add("-t", "--evaluate_split", metavar="SPLIT", default="test", help="for -m evaluate; default: %(default)s")


def _add_upstream(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("upstream").add_argument
    add("-u", "--upstream", metavar="NAME", help="aalbert_local, aalbert_features, ... or any of S3PRL")
    add("-k", "--upstream_ckpt", metavar="CKPT", help="checkpoint of the upstream, if it reads one")
    add("-g", "--upstream_model_config", metavar="YAML", help="configuration of the upstream, if it reads one")
    add("-s", "--upstream_feature_selection", metavar="KEY", default="hidden_states", help="default: %(default)s")
    add("-l", "--upstream_layer_selection", type=int, metavar="N", help="one layer instead of the weighted sum")
    add("-f", "--upstream_trainable", action="store_true", help="fine-tune the upstream")
    add("-r", "--upstream_refresh", action="store_true", help="download the upstream's checkpoint again")
    add("--upstream_feature_normalize", action="store_true", help="layer-normalise before the weighted sum")
    add("--hub", choices=("torch", "huggingface"), default="torch", help="default: %(default)s")
    add("--upstream_model_name", metavar="FILE", default="model.pt", help="with --hub huggingface")
    add("--upstream_revision", metavar="COMMIT", help="with --hub huggingface")


def options_parser() -> argparse.ArgumentParser:
    """Return a parser of these options alone."""
    parser = Parser(PROGRAM)
    add_arguments(parser)
    return parser
