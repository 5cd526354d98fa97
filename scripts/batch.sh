# SPDX-License-Identifier: Apache-2.0
# Sourced by the batch scripts: runs train, render and evaluate for each scene of a folder.
#
# run_batch needs: DATA_ROOT OUT_ROOT SCENES, the arrays TRAIN_FLAGS EVALUATE_FLAGS, and in
# EXTRA_FLAGS what the user added for train.py. A scene is finished when its run has results.json.
# With LIMIT_MINUTES=N a scene that takes longer is ended and FAILED.

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
STATES=()
FAILED=0
OVER_LIMIT=124 # the exit code of timeout

# read_batch_arguments DEFAULT_DATA DEFAULT_OUT DEFAULT_SCENES "$@"
read_batch_arguments() {
  DATA_ROOT="${DATA_ROOT:-$1}" OUT_ROOT="${OUT_ROOT:-$2}" SCENES="${SCENES:-$3}"
  shift 3
  if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    sed -n '3,/^set /s/^# \{0,1\}//p' "$0"
    exit 0
  fi
  if [[ -n "${1:-}" && "$1" != -* ]]; then DATA_ROOT="$1" && shift; fi
  if [[ -n "${1:-}" && "$1" != -* ]]; then OUT_ROOT="$1" && shift; fi
  EXTRA_FLAGS=("$@")
  # train.py runs in the repository, so relative folders are made absolute here
  [[ "$DATA_ROOT" == /* ]] || DATA_ROOT="$PWD/$DATA_ROOT"
  [[ "$OUT_ROOT" == /* ]] || OUT_ROOT="$PWD/$OUT_ROOT"
  if [[ ! -d "$DATA_ROOT" ]]; then
    echo "$(basename -- "$0"): no folder $DATA_ROOT: pass the folder that holds the scenes" >&2
    exit 2
  fi
  if [[ ! "${LIMIT_MINUTES:=0}" =~ ^[0-9]+([.][0-9]+)?$ ]]; then
    echo "$(basename -- "$0"): LIMIT_MINUTES must be a number of minutes, got $LIMIT_MINUTES" >&2
    exit 2
  fi
  LIMIT_SECONDS=$(awk -v minutes="$LIMIT_MINUTES" 'BEGIN { printf "%d", 60 * minutes + 0.5 }')
}

# One step of a scene; says what it does, keeps all output in the scene's log.
batch_step() { # LOG COMMAND...
  local log="$1" limit=() left=$((DEADLINE - SECONDS)) code=0
  shift
  printf '\n$ %s\n' "$*" >>"$log"
  # train.py saves where it is asked to stop, so it gets some seconds before it is killed
  if ((LIMIT_SECONDS)); then
    limit=(timeout --foreground --kill-after=30 "$((left > 0 ? left : 1))")
  fi
  (cd -- "$ROOT" && ${limit[@]+"${limit[@]}"} "$@") >>"$log" 2>&1 </dev/null || code=$?
  if ((LIMIT_SECONDS && DEADLINE <= SECONDS && code)); then # 137: it had to be killed
    code=$OVER_LIMIT
    echo "error: it took longer than LIMIT_MINUTES=$LIMIT_MINUTES" >>"$log"
  fi
  return "$code"
}

train_scene() { # SCENE RUN LOG
  local source="$DATA_ROOT/$1" run="$2" log="$3" again=()
  if [[ ! -d "$source" ]]; then
    echo "no folder $source" >>"$log"
    return 2
  fi
  if compgen -G "$run/chkpnt*.pth" >/dev/null; then
    again=(--resume auto)
  elif [[ -d "$run" ]]; then
    again=(--overwrite)
  fi
  batch_step "$log" "$IQGS_PYTHON" train.py -s "$source" -m "$run" "${TRAIN_FLAGS[@]}" \
    ${again[@]+"${again[@]}"} ${EXTRA_FLAGS[@]+"${EXTRA_FLAGS[@]}"} || return
  batch_step "$log" "$IQGS_PYTHON" render.py -m "$run" --quiet || return
  batch_step "$log" "$IQGS_PYTHON" evaluate.py -m "$run" "${EVALUATE_FLAGS[@]}" || return
}

# Trains all scenes; one failure does not stop the rest. Exit code 1 if any failed.
run_batch() {
  local scene run log code start
  IQGS_PYTHON="${IQGS_PYTHON:-$(bash "$ROOT/scripts/setup.sh" --print-python)}"
  mkdir -p -- "$OUT_ROOT/logs"
  for scene in $SCENES; do
    run="$OUT_ROOT/$scene" log="$OUT_ROOT/logs/$scene.log" start=$SECONDS code=0
    DEADLINE=$((SECONDS + LIMIT_SECONDS))
    if [[ -f "$run/results.json" ]]; then
      STATES+=("$scene=finished before")
      continue
    fi
    printf '%s: training, log in %s\n' "$scene" "$log"
    : >"$log"
    train_scene "$scene" "$run" "$log" || code=$?
    if ((code == 130 || code == 143)); then
      printf '%s: interrupted; the same command goes on from here\n' "$scene" >&2
      exit "$code"
    fi
    if ((code)); then
      FAILED=$((FAILED + 1))
      STATES+=("$scene=FAILED ($code)")
      printf '%s: FAILED with exit code %d: %s\n' "$scene" "$code" "$(tail -n 1 "$log")" >&2
    else
      STATES+=("$scene=$(((SECONDS - start + 30) / 60)) min")
    fi
  done
  "$IQGS_PYTHON" "$ROOT/scripts/summary.py" "$OUT_ROOT" "${STATES[@]}"
  if ((FAILED)); then exit 1; fi
}
