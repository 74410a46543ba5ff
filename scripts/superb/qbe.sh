#!/usr/bin/env bash
# SUPERB QbE: nothing is trained; dynamic time warping on every layer (LAYERS, of a 3-layer model by default). Scores come
# from the program in QUESST's own scoring folder; choose the layer with the highest maxTWV on dev and run again with
# LAYER=N. Arguments and further variables: common.sh.
. "$(dirname "$0")/common.sh"
for layer in ${LAYER:-${LAYERS:-0 1 2 3}}; do
  for split in dev test; do
    folder=$RESULT/layer_$layer/$split
    if [ ! -s "$folder/benchmark.stdlist.xml" ]; then
      aalbert downstream -m evaluate -t $split "${model[@]}" -l "$layer" -d quesst14_dtw -c superb_qbe -p "$folder" \
        ${OVERRIDE:+-o "$OVERRIDE"} ${options[@]+"${options[@]}"}
    fi
  done
  if [ -z "${LAYER:-}" ] && [ -x quesst14Database/scoring/score-TWV-Cnxe.sh ]; then
    echo "layer $layer on dev:"
    (cd quesst14Database/scoring && ./score-TWV-Cnxe.sh "$RESULT/layer_$layer/dev" groundtruth_quesst14_dev -10)
  fi
done
if [ -n "${LAYER:-}" ]; then
  keep "$RESULT/layer_$LAYER/test"
else
  echo "choose the best layer N by its score on dev, then: LAYER=N $0 ..."
fi
