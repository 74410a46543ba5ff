#!/usr/bin/env bash
# SUPERB ASR: the characters of LibriSpeech, chosen by word error rate. Arguments and variables: common.sh.
. "$(dirname "$0")/common.sh"
"$PYTHON" -m s3prl_aalbert.submission.superb_lengths LibriSpeech
grid asr superb_asr dev-clean-best.ckpt test-clean
