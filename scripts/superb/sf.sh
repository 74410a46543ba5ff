#!/usr/bin/env bash
# SUPERB SF: the slots of Audio SNIPS, chosen by slot type F1. Arguments and variables: common.sh.
. "$(dirname "$0")/common.sh"
grid ctc superb_sf dev-best.ckpt
