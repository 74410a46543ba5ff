# Sourced by the scripts beside it, which all take the same arguments:
#
#   scripts/superb/TASK.sh MODEL CORPORA OUT
#
#   MODEL     a checkpoint or release folder; "none" for an upstream that takes none
#   CORPORA   the folder of all corpora, see docs/submission.md
#   OUT       gets TASK/lr_RATE, one run each, and TASK/best, the one chosen and evaluated on test
#
# Variables:
#   LRS       learning rates to try; SUPERB's grid is 1e-1 to 1e-7
#   UPSTREAM  aalbert_local, or any other upstream
#   OPTIONS   further options of `aalbert downstream -m train`, e.g. "-s layer_states --device cuda"
#   OVERRIDE  further settings for its -o, e.g. config.runner.total_steps=1000
#
# A run that was interrupted goes on where it stopped.
set -euo pipefail

if [ $# -ne 3 ]; then
  echo "usage: $0 MODEL CORPORA OUT" >&2
  exit 2
fi
case $1 in none | /*) MODEL=$1 ;; *) MODEL=$PWD/$1 ;; esac
for name in LM LEXICON; do # of asr.sh
  case ${!name:-} in "" | /*) ;; *) printf -v "$name" %s "$PWD/${!name}" ;; esac
done
mkdir -p "$3/$(basename "$0" .sh)"
RESULT=$(cd "$3/$(basename "$0" .sh)" && pwd)
cd "$2" # the configurations name corpora from here
LRS=${LRS:-1e-1 1e-2 1e-3 1e-4 1e-5 1e-6 1e-7}
PYTHON=${PYTHON:-python}

model=(-u "${UPSTREAM:-aalbert_local}")
if [ "$MODEL" != none ]; then model+=(-k "$MODEL"); fi
read -r -a options <<<"${OPTIONS:-}"

# train DIR TASK CONFIG RATE [SETTING]
train() {
  local settings=config.optimizer.lr=$4${5:+,,$5}${OVERRIDE:+,,$OVERRIDE}
  aalbert downstream -m train -a "${model[@]}" -d "$2" -c "$3" -p "$1" -o "$settings" ${options[@]+"${options[@]}"}
}

# evaluate CHECKPOINT [SPLIT [SETTING]]
evaluate() {
  aalbert downstream -m evaluate -e "$1" -t "${2:-test}" ${3:+-o "$3"}
}

# choose CHECKPOINT: prints the learning rate's folder that did best on dev
choose() {
  "$PYTHON" -m s3prl_aalbert.submission.superb_best "$1" "$RESULT"/lr_*
}

# keep DIR: this is the run to submit
keep() {
  ln -sfn "$1" "$RESULT/best"
  echo "$RESULT/best -> $1"
}

# grid TASK CONFIG CHECKPOINT [SPLIT]: trains at every learning rate, evaluates the best one
grid() {
  local rate best
  for rate in $LRS; do train "$RESULT/lr_$rate" "$1" "$2" "$rate"; done
  best=$(choose "$3")
  evaluate "$best/$3" "${4:-test}"
  keep "$best"
}
