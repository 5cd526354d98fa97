#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Trains, renders and scores the indoor scenes of Mip-NeRF 360: half resolution, every 8th view held
# out.
#
#   bash scripts/train_360_v2.sh [DATA_ROOT [OUT_ROOT]] [flags for train.py...]
#   SCENES=bonsai bash scripts/train_360_v2.sh data/360_v2 output/360_v2 --no_masks
#
# DATA_ROOT (data/360_v2) holds one folder per scene: images_2/ sparse/0/ object_mask/ (masks are not
# part of the data set: make them, or pass --no_masks). OUT_ROOT (output/360_v2) gets one run per scene
# and logs/. Finished scenes (results.json) are skipped, interrupted ones go on; one failure does not
# stop the rest, but the exit code is 1. LIMIT_MINUTES=90 before the command ends a scene that takes
# longer, as FAILED.
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/batch.sh"
read_batch_arguments data/360_v2 output/360_v2 "bonsai counter kitchen room" "$@"
TRAIN_FLAGS=(--images images_2 --eval)
EVALUATE_FLAGS=(--split test)
run_batch
