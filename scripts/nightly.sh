#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# At length what the tests do briefly: fuzzers, kills, full disks, short memory, sanitizers.
#
# nightly.sh [PART...]     all parts, or: fuzz kills disk memory hostile sanitize
#
# SCALE=0.01 nightly.sh    a hundredth of the counts, to try it out
#
# Prints a table; the exit code is 1 at a finding. Logs lie in $LOGS (default: a folder of their own
# below /tmp). Some hours of two cores at full counts.
set -uo pipefail

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
  sed -n '3,/^set /s/^# \{0,1\}//p' "$0"
  exit 0
fi
ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd -- "$ROOT"
PYTHON="${IQGS_PYTHON:-$(bash scripts/setup.sh --print-python)}"
LOGS="${LOGS:-$(mktemp -d "${TMPDIR:-/tmp}/iqgs-nightly.XXXXXX")}"
SCALE="${SCALE:-1}"
PARTS="${*:-fuzz kills disk memory hostile sanitize}"
MEMORY=/dev/shm # files that never reach a disk
[[ -w $MEMORY ]] || MEMORY="$LOGS"
export OMP_NUM_THREADS=1
FOUND=0
mkdir -p -- "$LOGS"

times() { # COUNT: scaled, at least 1
  awk -v n="$1" -v s="$SCALE" 'BEGIN { x = int(n * s); print x < 1 ? 1 : x }'
}

step() { # NAME COMMAND...: runs it and adds a line to the table
  local name="$1" log="$LOGS/${1// /_}.log" start=$SECONDS state=fine
  shift
  "$@" >"$log" 2>&1 || { state="FOUND, see $log" && FOUND=1; }
  printf '%-28s %6d s  %s\n' "$name" $((SECONDS - start)) "$state"
}

rehearse() { # MODE WORDS...
  local work
  work="$(mktemp -d "$MEMORY/iqgs.XXXXXX")"
  "$PYTHON" -m tests.faults.rehearsal "$1" "$work/run" "${@:2}"
  local code=$?
  rm -rf -- "$work"
  return "$code"
}

full_disk() {
  local shim="$LOGS/full_disk.so" most=0
  [[ $SCALE == 1 ]] || most="$(times 100)"
  "${CXX:-g++}" -O1 -shared -fPIC -o "$shim" tests/faults/full_disk.cpp -ldl || return
  LD_PRELOAD="$shim" rehearse full-disk --most "$most" && rehearse small-files
}

hostile() {
  local work
  work="$(mktemp -d "$LOGS/hostile.XXXXXX")"
  "$PYTHON" -m tests.faults.hostile "$work"
}

fuzz() { # TEST MULTIPLE: of the suite's counts, with 8 GB of address space at most
  (ulimit -v 8388608 && IQGS_FUZZ="$(times "$2")" "$PYTHON" -m pytest -q -p no:cacheprovider "$1")
}

for part in $PARTS; do
  case "$part" in
    fuzz)
      step 'fuzz ply, settings' fuzz tests/utils/test_fuzz_readers.py 70
      step 'fuzz colmap, images' fuzz tests/scene/test_reader_fuzz.py 200
      step 'fuzz masks' fuzz tests/scene/test_mask_fuzz.py 50
      step 'fuzz checkpoints' fuzz tests/faults/test_fuzz_checkpoints.py 33
      step 'fuzz rasterizer' fuzz tests/faults/test_fuzz_rasterizer.py 66
      step 'fuzz exports of others' env IQGS_FUZZ_TRIALS="$(times 300)" \
        "$PYTHON" -m pytest -q -p no:cacheprovider tests/preparation/test_mask_import_fuzz.py
      ;;
    kills) step 'kills' rehearse kills --count "$(times 25)" ;;
    disk) step 'full disk' full_disk ;;
    memory) step 'short memory' rehearse memory --count "$(times 300)" ;;
    hostile) step 'hostile folders' hostile ;;
    sanitize) step 'sanitizers' bash scripts/sanitize.sh "$(times 20000)" ;;
    *) echo "nightly.sh: no part $part" >&2 && exit 2 ;;
  esac
done
exit "$FOUND"
