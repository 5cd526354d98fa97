#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Everything that only a machine with an NVIDIA GPU can show, in one command: builds with CUDA, runs
# the GPU tests, NVIDIA's own memory and race checkers, the benchmarks and the short demo.
#
#   bash scripts/gpu_check.sh [FOLDER]     logs go to FOLDER (default: output/gpu_check)
#
# Exit code 0 when every step passed; a step whose tool is missing is said and skipped.
set -uo pipefail

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
case "${1:-}" in
  -h | --help) sed -n '4,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
  -*) echo "gpu_check.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
esac
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

printf '\nlogs: %s\n' "$OUT"
if ((${#FAILED[@]})); then
  echo "failed: ${FAILED[*]}" >&2
  exit 1
fi
echo "all steps passed"
