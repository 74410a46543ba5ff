# Sourced by the scripts beside it, which all take the same arguments:
#
#   scripts/superb/TASK.sh [--print] MODEL CORPORA OUT
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
#   SCREEN    share of the steps, e.g. 0.1, after which only the KEEP (2) rates that are best on dev go on; unset, as in
#             SUPERB's protocol, every rate has all of its steps
#   FEATURES  a folder that keeps what the frozen upstream makes of each utterance
#   PRINT     as --print: prints the trainings that come next, one command a line, and runs none
#
# A run that was interrupted goes on where it stopped.
set -euo pipefail

arguments=()
for argument in "$@"; do
  if [ "$argument" = --print ]; then PRINT=1; else arguments+=("$argument"); fi
done
set -- ${arguments[@]+"${arguments[@]}"}
if [ $# -ne 3 ]; then
  echo "usage: $0 [--print] MODEL CORPORA OUT" >&2
  exit 2
fi
case $1 in none | /*) MODEL=$1 ;; *) MODEL=$PWD/$1 ;; esac
for name in LM LEXICON FEATURES; do # the first two of asr.sh
  case ${!name:-} in "" | /*) ;; *) printf -v "$name" %s "$PWD/${!name}" ;; esac
done
NAME=$(basename "$0" .sh)
mkdir -p "$3/$NAME"
RESULT=$(cd "$3/$NAME" && pwd)
cd "$2" # the configurations name corpora from here
LRS=${LRS:-1e-1 1e-2 1e-3 1e-4 1e-5 1e-6 1e-7}
SCREEN=${SCREEN:-}
KEEP=${KEEP:-2}
PRINT=${PRINT:-}
PYTHON=${PYTHON:-python}

model=(-u "${UPSTREAM:-aalbert_local}")
if [ "$MODEL" != none ]; then model+=(-k "$MODEL"); fi
read -r -a options <<<"${OPTIONS:-}"
first=     # what prepare found to be done before each training, where trainings are printed
screening= # whether this is the training of all rates before the choice of SCREEN
printed=

# run COMMAND...: runs it, or with PRINT prints it as one line that works in any folder
run() {
  if [ -z "$PRINT" ]; then
    "$@"
  else
    printed=1
    printf 'cd %q && %s%s\n' "$PWD" "$first" "$(printf '%q ' "$@")"
  fi
}

# prepare COMMAND...: runs it, or with PRINT puts it before each training; it does nothing the second time
prepare() {
  if [ -z "$PRINT" ]; then "$@"; else first="$(printf '%q ' "$@")&& "; fi
}

# random_crops: says that the task cuts pieces at random, of which none comes twice, and does without FEATURES
random_crops() {
  if [ -n "${FEATURES:-}" ]; then
    echo "$NAME: FEATURES is not used, this task cuts its utterances at random" >&2
    FEATURES=
  fi
}

# settings SETTING...: joins them for -o, with OVERRIDE and FEATURES
settings() {
  local each joined=
  for each in "$@" "${OVERRIDE:-}" ${FEATURES:+"config.runner.feature_cache='$FEATURES'"}; do
    if [ -n "$each" ]; then joined+=${joined:+,,}$each; fi
  done
  printf %s "$joined"
}

# trained DIR STEPS: whether the run has come that far
trained() {
  local state step
  for state in "$1"/states-*.ckpt; do
    step=${state##*-}
    if [ -f "$state" ] && [ "${step%.ckpt}" -ge "$2" ]; then return 0; fi
  done
  return 1
}

# train DIR TASK CONFIG RATE STEPS [SETTING]
train() {
  # What has all of its steps is left to aalbert, which sees whether it is a run of this model.
  if [ -n "$PRINT$screening" ] && trained "$1" "$5"; then return; fi
  run aalbert downstream -m train -a "${model[@]}" -d "$2" -c "$3" -p "$1" \
    -o "$(settings "config.optimizer.lr=$4" "${6:-}"),,config.runner.total_steps=$5" ${options[@]+"${options[@]}"}
}

# train_rate TASK CONFIG RATE STEPS; er.sh has its own
train_rate() {
  train "$RESULT/lr_$3" "$@"
}

# train_rates TASK CONFIG [CHECKPOINT]: trains at every learning rate; ends the script where trainings are printed.
# CHECKPOINT is what SCREEN chooses by; a task without one has no screening.
train_rates() {
  local rate steps folders=()
  if [ -n "$SCREEN" ] && [ -n "${3:-}" ]; then
    steps=$(count_steps "$2" --share "$SCREEN")
    screening=1
    for rate in $LRS; do
      train_rate "$1" "$2" "$rate" "$steps"
      folders+=("$RESULT/lr_$rate")
    done
    screening=
    if [ -n "$printed" ]; then exit; fi
    LRS=$("$PYTHON" -m s3prl_aalbert.submission.superb_best --count "$KEEP" "$3" "${folders[@]}" | sed 's|.*/lr_||')
    echo "$NAME: after $steps steps these rates go on:" $LRS >&2
  fi
  steps=$(count_steps "$2")
  for rate in $LRS; do train_rate "$1" "$2" "$rate" "$steps"; done
  if [ -n "$PRINT" ]; then exit; fi
}

# count_steps CONFIG [--share SHARE]: prints the optimizer steps of a run
count_steps() {
  "$PYTHON" -m s3prl_aalbert.submission.superb_steps "$@" ${OVERRIDE:+-o "$OVERRIDE"}
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
  local best
  train_rates "$1" "$2" "$3"
  best=$(choose "$3")
  evaluate "$best/$3" "${4:-test}"
  keep "$best"
}
