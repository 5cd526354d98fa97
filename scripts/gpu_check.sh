#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Everything that only a machine with an NVIDIA GPU can show, in one command: builds with CUDA, runs
# the GPU tests, times every kernel alone, NVIDIA's own memory and race checkers, the benchmarks and the
# short demo. What is worth most comes first and every step writes its own file, so that a machine that is
# lent for a quarter of an hour has told something when it is taken back.
#
#   bash scripts/gpu_check.sh [--short] [--before CHECKOUT] [FOLDER]
#
#   FOLDER    gets the logs and figures (default: output/gpu_check)
#   --short   ends after the times: no checkers, no comparison with other rasterizers, no demo
#   --before  another checkout of this repository, say of an earlier commit (git worktree add ../before
#             COMMIT): its rasterizer is built too, and its benchmarks take turns with ours
#
# Exit code 0 when every step passed; a step whose tool is missing is said and skipped.
set -uo pipefail

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
SHORT=0
BEFORE=""
while (($#)); do
  case "$1" in
    -h | --help) sed -n '4,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --short) SHORT=1 ;;
    --before)
      BEFORE="${2:-}"
      if [[ ! -f "$BEFORE/train.py" || ! -d "$BEFORE/submodules/diff-surfel-rasterization/csrc" ]]; then
        echo "gpu_check.sh: --before '$BEFORE' is no checkout of this repository; name its root" >&2
        exit 2
      fi
      BEFORE="$(cd -- "$BEFORE" && pwd -P)"
      shift
      ;;
    -*) echo "gpu_check.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
    *) break ;;
  esac
  shift
done
OUT="${1:-$ROOT/output/gpu_check}"
mkdir -p -- "$OUT"
OUT="$(cd -- "$OUT" && pwd -P)"
cd -- "$ROOT"
FAILED=()

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L; then
  echo "error: nvidia-smi finds no NVIDIA GPU on this machine; everything else is checked by: bash scripts/test.sh" >&2
  exit 2
fi

# step NAME COMMAND...: its output goes to the terminal and to NAME.log.
step() {
  local name="$1"
  shift
  printf '\n== %s\n' "$name"
  if ! "$@" 2>&1 | tee "$OUT/$name.log"; then FAILED+=("$name"); fi
}

PY="$(IQGS_CUDA=1 bash scripts/setup.sh --dev --print-python)" || exit 1
export IQGS_PYTHON="$PY"
step tests "$PY" -m pytest -m cuda -q
# The projection in double precision and in pairs of floats, whichever the device would choose.
for doubles in fast slow; do
  step "kernel-times-$doubles" env IQGS_FLOAT64=$doubles "$PY" -m tests.benchmarks --device cuda \
    --only kernel-times --output "$OUT/kernel-times-$doubles.json"
  step "tests-$doubles" env IQGS_FLOAT64=$doubles "$PY" -m pytest tests/rasterizer/test_cuda.py -m cuda -q
done

# benchmarks_of NAME CHECKOUT [FOLDER OF ITS RASTERIZER]: those of the kernels that this file is about.
benchmarks_of() {
  local name="$1" checkout="$2" library="${3:-}"
  (cd -- "$checkout" && PYTHONPATH="$library" "$PY" -m tests.benchmarks --device cuda \
    --only rasterizer-cuda,cached-weights,image-loss,mask-loss --output "$OUT/$name.json")
}

if [[ -n "$BEFORE" ]]; then
  step build-before env IQGS_CUDA=1 "$PY" -m pip install --no-build-isolation --no-deps --upgrade \
    --target "$OUT/before" "$BEFORE/submodules/diff-surfel-rasterization"
  for turn in 1 2 3; do
    step "before-$turn" benchmarks_of "before-$turn" "$BEFORE" "$OUT/before"
    step "after-$turn" benchmarks_of "after-$turn" "$ROOT"
  done
fi
finish() {
  printf '\nlogs: %s\n' "$OUT"
  if ((${#FAILED[@]})); then
    echo "failed: ${FAILED[*]}" >&2
    exit 1
  fi
  echo "all steps passed"
  exit 0
}
if ((SHORT)); then
  [[ -n "$BEFORE" ]] || step times benchmarks_of times "$ROOT"
  finish
fi
if command -v compute-sanitizer >/dev/null; then
  # Memory as the kernels ask for it, not out of torch's pool. Kernels of torch are left out, but for
  # initcheck, which must see who writes.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  for tool in memcheck racecheck synccheck initcheck; do
    only=(--kernel-name kns=iqgs)
    [[ $tool == initcheck ]] && only=()
    step "sanitizer-$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "${only[@]}" \
      "$PY" -m tests.rasterizer.cuda_workload
  done
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
else
  echo "compute-sanitizer is not on the PATH (it comes with the CUDA toolkit): skipped"
fi
"$PY" -m pip install --quiet --no-deps -r tests/benchmarks/requirements.txt ||
  echo "the rows of other implementations are left out: their packages could not be installed"
step benchmarks "$PY" -m tests.benchmarks
step demo bash scripts/demo.sh --quick

finish
