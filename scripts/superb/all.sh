#!/usr/bin/env bash
# All tasks of SUPERB, one after the other; TASKS selects some, e.g. TASKS="pr ks". Arguments and variables: common.sh.
set -euo pipefail
for task in ${TASKS:-pr ks sid ic er asv sd asr sf qbe}; do "$(dirname "$0")/$task.sh" "$@"; done
