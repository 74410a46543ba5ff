#!/usr/bin/env bash
# All tasks of SUPERB, from the cheapest to the dearest (docs/submission.md) and QbE, which trains nothing; TASKS selects
# some, e.g. TASKS="pr ks". Arguments and variables: common.sh.
set -euo pipefail
for task in ${TASKS:-ic ks pr sd sf asv sid er asr qbe}; do "$(dirname "$0")/$task.sh" "$@"; done
