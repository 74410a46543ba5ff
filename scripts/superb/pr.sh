#!/usr/bin/env bash
# SUPERB PR: phonemes of LibriSpeech, chosen by phoneme error rate. Arguments and variables: common.sh.
. "$(dirname "$0")/common.sh"
grid ctc superb_pr dev-best.ckpt
