#!/usr/bin/env bash
# SUPERB ASV: speaker verification on VoxCeleb1. There is no dev set: as SUPERB does, every checkpoint of every learning
# rate is evaluated on test and the lowest equal error rate counts. Arguments and variables: common.sh.
. "$(dirname "$0")/common.sh"
random_crops
if [ -n "$SCREEN" ]; then echo "$NAME: SCREEN is not used, there is no dev set to choose by" >&2; fi
train_rates sv_voxceleb1 superb_asv
for checkpoint in "$RESULT"/lr_*/states-*.ckpt; do
  folder=${checkpoint%.ckpt}
  mkdir -p "$folder"
  if [ ! -s "$folder/eer.txt" ]; then
    evaluate "$checkpoint" test "args.expdir=$folder" | tee "$folder/log.txt"
    sed -n 's/.*test-EER: //p' "$folder/log.txt" >"$folder/eer.txt"
  fi
done
ranking=$(for file in "$RESULT"/lr_*/states-*/eer.txt; do echo "$(cat "$file") $(dirname "$file")"; done | sort -g)
echo "$ranking"
keep "$(head -n 1 <<<"$ranking" | cut -d ' ' -f 2-)"
