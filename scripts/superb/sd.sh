#!/usr/bin/env bash
# SUPERB SD: who speaks when in Libri2Mix, chosen by frame accuracy. Arguments and variables: common.sh.
. "$(dirname "$0")/common.sh"
grid diarization superb_sd best-states-dev.ckpt
