#!/usr/bin/env bash
# SUPERB ER: four emotions of IEMOCAP in five folds, one learning rate for all of them, chosen by mean accuracy.
# Arguments and variables: common.sh.
. "$(dirname "$0")/common.sh"
train_rate() {
  local fold
  for fold in 1 2 3 4 5; do
    train "$RESULT/lr_$3/fold$fold" "$@" config.downstream_expert.datarc.test_fold=fold$fold
  done
}
train_rates emotion superb_er dev-best.ckpt
best=$(choose dev-best.ckpt)
for fold in 1 2 3 4 5; do evaluate "$best/fold$fold/dev-best.ckpt"; done
keep "$best"
