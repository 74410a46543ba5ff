#!/usr/bin/env bash
# The built wheel in an empty environment and an empty folder: tests/wheel.sh [PYTHON] [TORCH]
#   PYTHON: interpreter, e.g. python3.12; TORCH: version of torch and torchaudio, e.g. 2.8; default: the newest allowed.
# The wheel is built from what is committed. Beside the commands below, the tests that touch torch, torchaudio and S3PRL
# most are run against the installed package.
set -euo pipefail
python=${1:-python3} torch=${2:-}
repository=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export TMPDIR=$place # what pip unpacks goes with the rest, also when it is stopped half-way

git clone --quiet "$repository" "$place/clone"
"$python" -m venv "$place/venv"
bin=$place/venv/bin
"$bin/python" -m pip install --quiet --upgrade pip
"$bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$place" "$place/clone"
pip_install() { "$bin/python" -m pip install --quiet --no-compile "$@"; }
install() { pip_install "$@" || pip_install "$@"; } # 3 GB: a download cut off starts once more
install "$place"/*.whl ${torch:+"torch==$torch.*" "torchaudio==$torch.*"}
export OMP_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE # what is imported is compiled once

mkdir "$place/empty"
cd "$place/empty"
"$bin/aalbert" doctor
"$bin/python" - "$place/venv" "$torch" << 'END'
import sys

import torch

import s3prl_aalbert
from s3prl_aalbert.speech.synthetic.corpus import synthesise_corpus
from s3prl_aalbert.upstream.hubconf import aalbert_tiny

venv, version = sys.argv[1:]
assert s3prl_aalbert.__file__.startswith(venv), s3prl_aalbert.__file__
assert torch.__version__.startswith(version), torch.__version__
states = aalbert_tiny()([torch.randn(16000)])["hidden_states"]  # the weights that come with the package
assert states[-1].shape[:2] == (1, 34), states[-1].shape
synthesise_corpus("speech", num_speakers=4, utterances_per_speaker=4, seconds=(0.5, 1.0), seed=3)
END
steps="config.runner.total_steps=2,,config.runner.eval_step=2,,config.runner.save_step=2"
"$bin/aalbert" pretrain -g debug -c pretrain_debug --speech speech -p model --device cpu -o "$steps" --quiet
"$bin/aalbert" downstream -m train -u aalbert_local -k model -d aalbert_phone -p phones --device cpu --quiet \
  -o "config.downstream_expert.datarc.audio=speech,,config.downstream_expert.datarc.pretraining_overlap=mark,,$steps"
"$bin/aalbert" downstream -m evaluate -e phones/dev-best.ckpt --device cpu --quiet
"$bin/aalbert" report phones -o report
test -s report/index.html

install pytest pytest-xdist psutil hypothesis
"$bin/pytest" -n 2 -p no:cacheprovider "$place"/clone/tests/unit/{model/test_encoder,upstream/test_upstream,checkpoint/test_checkpoint,toolkit/test_compiler,toolkit/test_toolkit_audio,toolkit/test_toolkit_checkpoints,toolkit/test_toolkit_register}.py \
  "$place"/clone/tests/integration/test_{run_downstream,torch_hub,task_commands}.py
