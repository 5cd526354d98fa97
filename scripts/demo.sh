#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The whole chain on the embedded scene: set-up, ray-casting, reconstruction, instances, pictures,
# scores. Everything it makes lies in output/demo. No GPU is needed.
#
#   bash scripts/demo.sh [--quick]        --quick: a third of the steps, worse pictures
set -euo pipefail

# ---- what is run -----------------------------------------------------------------------------------
VIEWS=60 WIDTH=256 HEIGHT=192 SEED=0
ITERATIONS=1600             # reconstruction, once; the other two runs learn on the same splats
INSTANCE_ITERATIONS=700     # output/demo/iqgs           clean masks
FRESH_ITERATIONS=700        # output/demo/iqgs-h         fresh ids in every view: objects are found in 3D
DEGRADED_ITERATIONS=700     # output/demo/iqgs-degraded  masks as SAM and trackers leave them, mended in 3D
PATH_FRAMES=48
OBJECT=17                   # the object that is written as a PLY of its own: a chair
# -----------------------------------------------------------------------------------------------------

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
case "${1:-}" in
  "") ;;
  --quick) ITERATIONS=600 INSTANCE_ITERATIONS=300 FRESH_ITERATIONS=300 DEGRADED_ITERATIONS=300 PATH_FRAMES=12 ;;
  *) echo "demo.sh: unknown option '$1' (only --quick)" >&2; exit 2 ;;
esac

PY="${IQGS_PYTHON:-$(bash "$ROOT/scripts/setup.sh" --print-python)}"
cd -- "$ROOT"
DEMO=output/demo
SCENE=$DEMO/scene
SECONDS=0 # from here on, without the set-up

step() { printf '\n[demo %3d s] %s\n' "$SECONDS" "$1"; }
train() { "$PY" train.py -s "$SCENE" --eval --seed "$SEED" --overwrite "$@"; }

step "ray-casting the scene: $VIEWS views of ${WIDTH}x$HEIGHT"
"$PY" scripts/make_synthetic_scene.py "$SCENE" --seed "$SEED" --width "$WIDTH" --height "$HEIGHT" \
  --views "$VIEWS" --degraded --shuffled --overwrite

SPLATS=$DEMO/iqgs/point_cloud/iteration_$ITERATIONS/point_cloud.ply
rm -rf -- "$DEMO/iqgs/point_cloud"

step "reconstruction ($ITERATIONS steps), then instances by id ($INSTANCE_ITERATIONS steps)"
train -m $DEMO/iqgs --iterations $ITERATIONS --instance_iterations $INSTANCE_ITERATIONS &
BY_ID=$!
while [[ ! -f "$SPLATS" ]] && kill -0 $BY_ID 2>/dev/null; do sleep 0.2; done
[[ -f "$SPLATS" ]] || { wait $BY_ID; exit 1; }

step "beside it, the same splats twice: ids that are fresh in every view, and masks as SAM and
            trackers leave them; both are made to agree in 3D first"
train -m $DEMO/iqgs-h -o object_mask_shuffled --method iqgs-h --start_ply "$SPLATS" \
  --instance_iterations $FRESH_ITERATIONS --threads 1 --quiet &
FRESH=$!
train -m $DEMO/iqgs-degraded -o object_mask_degraded --start_ply "$SPLATS" \
  --instance_iterations $DEGRADED_ITERATIONS --threads 1 --quiet &
DEGRADED=$!
wait $BY_ID
wait $DEGRADED
wait $FRESH

step "pictures of the first run; beside them, scores on the held-out views against the true masks"
"$PY" render.py -m $DEMO/iqgs --skip_train --masks --render_path --path_frames $PATH_FRAMES --quiet &
PICTURES=$!
"$PY" scripts/extract_object.py -m $DEMO/iqgs --id $OBJECT >$DEMO/object.txt &
CUTTING=$!
"$PY" evaluate.py -m $DEMO/iqgs $DEMO/iqgs-h $DEMO/iqgs-degraded --gt_path object_mask --quiet
wait $PICTURES
OBJECT_PLY=none
if wait $CUTTING; then OBJECT_PLY="$(<$DEMO/object.txt)"; fi

FINISHED=$SECONDS
PANELS="$(ls -d $DEMO/iqgs/test/ours_*/concat | sort -V | tail -n 1)"
printf '\nThe demo took %d min %02d s without the set-up.\n' $((FINISHED / 60)) $((FINISHED % 60))
FIRST_PANEL="$(ls "$PANELS"/*.png | head -n 1)"
printf 'Pictures:        %s (photo, render, depth, normals; masks, prediction, features, overlay)\n' "$FIRST_PANEL"
printf 'Video:           %s\n' "$(ls $DEMO/iqgs/traj/ours_*/result.mp4 | sort -V | tail -n 1)"
printf 'Object %-3s PLY:  %s\n' "$OBJECT" "$OBJECT_PLY"
printf 'Whole scene PLY: %s\n' "$(ls $DEMO/iqgs/point_cloud/iteration_*/point_cloud_viewer.ply | sort -V | tail -n 1)"
