#!/usr/bin/env bash
# SUPERB KS: 12 keywords of Speech Commands, chosen by accuracy. Arguments and variables: common.sh.
. "$(dirname "$0")/common.sh"
random_crops
grid speech_commands superb_ks dev-best.ckpt
