#!/usr/bin/env bash
# SUPERB QbE: nothing is trained; dynamic time warping on every layer of the model (or on LAYERS). Scores come from the
# program in QUESST's own scoring folder; choose the layer with the highest maxTWV on dev and run again with LAYER=N.
# Arguments and further variables: common.sh.
. "$(dirname "$0")/common.sh"
layers=${LAYER:-${LAYERS:-}}
if [ -z "$layers" ]; then
  layers=$("$PYTHON" -m s3prl_aalbert.toolkit.layer_names "${model[@]}" ${options[@]+"${options[@]}"})
fi
changed=$(settings)
for layer in $layers; do
  selection=(-l "$layer")
  if [ "$layer" = single ]; then selection=(); fi # of an upstream that has one layer, S3PRL refuses to select it
  for split in dev test; do
    folder=$RESULT/layer_$layer/$split
    if [ ! -s "$folder/benchmark.stdlist.xml" ]; then
      run aalbert downstream -m evaluate -t $split "${model[@]}" ${selection[@]+"${selection[@]}"} -d quesst14_dtw \
        -c superb_qbe -p "$folder" ${changed:+-o "$changed"} ${options[@]+"${options[@]}"}
    fi
  done
  if [ -z "${LAYER:-}$PRINT" ] && [ -x quesst14Database/scoring/score-TWV-Cnxe.sh ]; then
    echo "layer $layer on dev:"
    (cd quesst14Database/scoring && ./score-TWV-Cnxe.sh "$RESULT/layer_$layer/dev" groundtruth_quesst14_dev -10)
  fi
done
if [ -n "$PRINT" ]; then exit; fi
if [ -n "${LAYER:-}" ]; then
  keep "$RESULT/layer_$LAYER/test"
else
  echo "choose the best layer N by its score on dev, then: LAYER=N $0 ..."
fi
