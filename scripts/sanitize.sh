#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The C++ of the CPU backend under the address, undefined-behaviour and thread sanitizers.
#
# sanitize.sh [CASES] [SEED]     20000 random cases with seed 0, a tenth of them under the last one
#
# SETS="baseline" sanitize.sh    only these instruction sets (default: baseline avx2 avx512)
# CHECKS="address" sanitize.sh   only these (default: address undefined thread)
#
# Compiles the kernels without torch, with tests/faults/sanitize.cpp, which feeds them sizes 0 to 70,
# 0 to 200 splats and numbers that are extreme or none; for every instruction set that runs here. The
# exit code is 1 at a finding, 2 without a compiler that has the sanitizers.
set -euo pipefail

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
CASES="${1:-20000}" SEED="${2:-0}"
SOURCES="$ROOT/submodules/diff-surfel-rasterization/csrc"
CXX="${CXX:-g++}"
WORK="$(mktemp -d)"
trap 'rm -rf -- "$WORK"' EXIT

SETS="${SETS:-baseline avx2 avx512}"
CHECKS="${CHECKS:-address undefined thread}"
AVX2=(-mavx2 -mfma -mf16c)
AVX512=(-mavx512f -mavx512vl -mavx512dq -mavx512bw "${AVX2[@]}")
COMMON=(-std=c++17 -O1 -g -fno-omit-frame-pointer -ffp-contract=off "-I$SOURCES")

command -v "$CXX" >/dev/null || { echo "sanitize.sh: no compiler $CXX; set CXX" >&2; exit 2; }
X86=0
if [[ $SETS != baseline ]]; then
  case "$(uname -m)" in x86_64 | amd64) X86=1 ;; esac
fi

flags_of() { # FILE
  case "$1" in
    */kernels_avx512.cpp) printf '%s\n' "${AVX512[@]}" ;;
    */kernels_avx2.cpp) printf '%s\n' "${AVX2[@]}" ;;
    *) if ((X86)); then echo -DIQGS_X86_KERNELS; fi ;;
  esac
}

build() { # NAME SANITIZERS...
  local name="$1" source objects=() words jobs=0
  shift
  for source in "$SOURCES"/cpu/*.cpp "$SOURCES"/losses/cpu/*.cpp "$ROOT/tests/faults/sanitize.cpp"; do
    case "$source" in */kernels_avx*) ((X86)) || continue ;; esac
    mapfile -t words < <(flags_of "$source")
    objects+=("$WORK/$name.${#objects[@]}.o")
    "$CXX" "${COMMON[@]}" "$@" "${words[@]}" -c "$source" -o "${objects[-1]}" &
    if ((++jobs >= ${MAX_JOBS:-2})); then wait -n && jobs=$((jobs - 1)); fi
  done
  wait
  "$CXX" "$@" "${objects[@]}" -pthread -o "$WORK/$name"
}

echo 'int main() {}' >"$WORK/probe.cpp"
if ! "$CXX" -fsanitize=address,undefined "$WORK/probe.cpp" -o "$WORK/probe" 2>/dev/null; then
  echo "sanitize.sh: $CXX has no sanitizers here; install its libasan and libubsan" >&2
  exit 2
fi

run() { # NAME CASES
  local set status=0
  for set in $SETS; do
    if IQGS_ISA=$set "$WORK/$1" 0 >/dev/null 2>&1; then
      echo "$1: $(IQGS_ISA=$set "$WORK/$1" "$2" "$SEED" 2>"$WORK/log" || echo FAILED)"
      if [[ -s "$WORK/log" ]]; then
        head -n 60 "$WORK/log" >&2
        status=1
      fi
    fi
  done
  return "$status"
}

# Kernels are one large function each: with all checks of undefined behaviour their compilation takes
# minutes and gigabytes, so that these have a build of their own.
FOUND=0
for check in $CHECKS; do
  case "$check" in
    address) build address -fsanitize=address && run address "$CASES" || FOUND=1 ;;
    undefined)
      build undefined -fsanitize=undefined,float-cast-overflow -fno-sanitize-recover=all &&
        run undefined "$CASES" || FOUND=1
      ;;
    thread) build thread -fsanitize=thread && run thread "$((CASES / 10))" || FOUND=1 ;;
    *) echo "sanitize.sh: no check $check" >&2 && exit 2 ;;
  esac
done
exit "$FOUND"
