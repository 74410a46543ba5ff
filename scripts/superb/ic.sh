#!/usr/bin/env bash
# SUPERB IC: the intents of Fluent Speech Commands, chosen by accuracy. Arguments and variables: common.sh.
. "$(dirname "$0")/common.sh"
grid fluent_commands superb_ic dev-best.ckpt
