#!/usr/bin/env bash
# SUPERB SID: the speakers of VoxCeleb1, chosen by accuracy. Arguments and variables: common.sh.
. "$(dirname "$0")/common.sh"
random_crops
grid voxceleb1 superb_sid dev-best.ckpt
