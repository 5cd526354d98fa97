#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Sets up everything that training, rendering and evaluation need; costs seconds when it is all there.
#
#   bash scripts/setup.sh [--dev] [--print-python]
#
#   --dev            also what the tests and linters need (requirements-dev.txt)
#   --print-python   progress goes to stderr, the path of the interpreter to use to stdout
#
# It uses an active virtual environment that has torch; otherwise it makes .venv beside this
# repository's README. Environment: PYTHON (interpreter to use), CXX, MAX_JOBS,
# IQGS_CUDA=auto|0|1, TORCH_CUDA_ARCH_LIST, CUDA_HOME, CUDAHOSTCXX.
set -euo pipefail

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
RASTERIZER="$ROOT/submodules/diff-surfel-rasterization"
CHECKS="$ROOT/scripts/setup_checks.py"
TORCH_PIN="$(sed -n 's/^\(torch==[^ #]*\).*/\1/p' "$ROOT/requirements.txt")"
REQUIREMENTS=("$ROOT/requirements.txt")
PRINT_PYTHON=0
PY=""
OURS=0 # 1 when the environment is our own .venv, where tools may be upgraded

for argument in "$@"; do
  case "$argument" in
    --dev) REQUIREMENTS+=("$ROOT/requirements-dev.txt") ;;
    --print-python) PRINT_PYTHON=1 ;;
    -h | --help) sed -n '4,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "setup.sh: unknown option '$argument' (see --help)" >&2; exit 2 ;;
  esac
done

exec 3>&1 </dev/null
if ((PRINT_PYTHON)); then exec 1>&2; fi
LOG="$(mktemp "${TMPDIR:-/tmp}/iqgs-setup.XXXXXX")"
trap '[[ -s "$LOG" ]] || rm -f -- "$LOG"' EXIT # kept only if it tells something

say() { printf '[set-up %3d s] %s\n' "$SECONDS" "$*"; }
die() { printf '[set-up %3d s] error: %s\n' "$SECONDS" "$1" >&2; exit "${2:-1}"; }

# run HINT COMMAND...: quietly; when it fails, the end of what it said and the hint.
run() {
  local hint="$1"
  shift
  if ! "$@" >"$LOG" 2>&1; then
    tail -n 25 "$LOG" >&2
    die "$hint (everything it said: $LOG)"
  fi
}

pip_install() {
  local hint="$1"
  shift
  run "$hint" "$PY" -m pip install --disable-pip-version-check --no-input --progress-bar off "$@"
}

# An interpreter counts only after it has executed: version-manager shims exist without running.
usable_python() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

find_base_python() {
  if [[ -n "${PYTHON:-}" ]]; then
    usable_python "$PYTHON" || die "PYTHON=$PYTHON does not run or is older than 3.10" 2
    command -v -- "$PYTHON"
    return
  fi
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.10 python; do
    if usable_python "$name"; then
      command -v -- "$name"
      return
    fi
  done
  die "no Python >= 3.10 found: install one, or name it with PYTHON=/path/to/python3" 2
}

in_virtual_environment() {
  "$1" -c 'import os, sys; sys.exit(sys.prefix == sys.base_prefix and not os.path.isdir(os.path.join(sys.prefix, "conda-meta")))'
}

require_disk() { # MEGABYTES
  local free
  free="$(df -Pk "$ROOT" | awk 'NR == 2 { print int($4 / 1024) }')"
  ((free >= $1)) || die "disk full: need $1 MB, free $free MB in $ROOT"
}

make_own_environment() {
  local base="$1" venv="$ROOT/.venv"
  OURS=1
  PY="$venv/bin/python"
  if usable_python "$PY" && "$PY" -m pip --version >/dev/null 2>&1; then return; fi
  "$base" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
    die "$base cannot make virtual environments: apt install python3-venv (or set PYTHON)" 2
  say "making $venv with $("$base" --version)"
  run "could not make $venv" "$base" -m venv --clear "$venv"
}

choose_environment() {
  local active="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" base
  if [[ -z "${PYTHON:-}" && -n "$active" ]] && usable_python "$active/bin/python" &&
    "$active/bin/python" "$CHECKS" torch >/dev/null 2>&1; then
    PY="$active/bin/python"
    say "using the active environment $active"
    return
  fi
  base="$(find_base_python)"
  if [[ -n "${PYTHON:-}" ]] && in_virtual_environment "$base" && "$base" "$CHECKS" torch >/dev/null 2>&1; then
    PY="$base"
    return
  fi
  make_own_environment "$base"
}

install_tools() {
  local missing=() name
  for name in setuptools wheel ninja; do
    "$PY" -c "import $name" >/dev/null 2>&1 || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  if ((OURS)); then missing=(-U pip "${missing[@]}"); fi
  say "installing build tools"
  pip_install "could not install the build tools: is there a network?" "${missing[@]}"
}

install_torch() {
  if "$PY" "$CHECKS" torch >/dev/null 2>&1; then return; fi
  require_disk 3000
  say "installing $TORCH_PIN (200 MB to 3 GB, minutes on a slow line)"
  pip_install "could not install $TORCH_PIN for $("$PY" --version): check the network, or set PYTHON to a Python 3.10 to 3.13" \
    "$TORCH_PIN"
  "$PY" "$CHECKS" torch >/dev/null 2>&1 || die "torch is installed but cannot be imported by $PY"
}

install_requirements() {
  local missing=() line
  while IFS= read -r line; do
    [[ -z "$line" ]] || missing+=("$line")
  done < <("$PY" "$CHECKS" missing "${REQUIREMENTS[@]}")
  ((${#missing[@]})) || return 0
  require_disk 600
  say "installing ${missing[*]%%[<>=]*}"
  pip_install "could not install the requirements: is there a network?" "${missing[@]}"
}

find_compiler() {
  local name
  for name in "${CXX:-}" g++ c++ clang++; do
    if [[ -n "$name" ]] && $name --version >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
}

# A GPU and a torch that can use it, but no CUDA toolkit: nvidia's packages have a compiler, too. Only
# into our own environment.
install_nvcc() {
  ((OURS)) || return 0
  local wanted
  wanted="$("$PY" "$CHECKS" nvcc "$RASTERIZER" 2>"$LOG")" || die "$(tail -n 1 "$LOG")" 2
  [[ -n "$wanted" ]] || return 0
  require_disk 1000
  say "installing a CUDA compiler for the GPU"
  # Without it the CPU backend is built, and the line below says why.
  # shellcheck disable=SC2086
  "$PY" -m pip install --disable-pip-version-check --no-input --progress-bar off $wanted >"$LOG" 2>&1 || true
}

# The rasterizer's own setup.py chooses the backends and installs its torch reference alone where
# there is no compiler.
install_rasterizer() {
  local compiler version stamp stamp_file
  compiler="$(find_compiler)"
  version="$([[ -z "$compiler" ]] || $compiler --version | head -n 1)"
  stamp_file="$("$PY" "$CHECKS" stamp_file)"
  stamp="$("$PY" "$CHECKS" stamp "$RASTERIZER" "$version" 2>"$LOG")" || die "$(tail -n 1 "$LOG")" 2
  if [[ -z "$compiler" ]]; then
    say "no C++ compiler: the torch reference rasterizer takes over, correct but slow (apt install g++, then run this again)"
  fi
  if [[ -f "$stamp_file" && "$(<"$stamp_file")" == "$stamp" ]]; then return; fi
  [[ -z "$compiler" ]] || say "building the rasterizer with $compiler (a minute or two)"
  rm -f -- "$stamp_file"
  pip_install "the rasterizer did not build: apt install g++ python3-dev, or IQGS_CUDA=0 to leave CUDA out" \
    -v --no-build-isolation --no-deps --force-reinstall "$RASTERIZER"
  sed -n 's/^ *\(diff_surfel_rasterization: .*\)/\1/p' "$LOG" | tail -n 1 # what was built, and why
  printf '%s' "$stamp" >"$stamp_file"
}

smoke_test() {
  local backends
  backends="$(cd / && "$PY" "$CHECKS" smoke 2>"$LOG")" || {
    tail -n 15 "$LOG" >&2
    die "the smoke test failed: remove $ROOT/.venv and run this again"
  }
  say "ready: $PY, torch $("$PY" "$CHECKS" torch), rasterizer: $backends"
}

choose_environment
install_tools
install_torch
install_requirements
install_nvcc
install_rasterizer
smoke_test
: >"$LOG"
if ((PRINT_PYTHON)); then
  printf '%s\n' "$PY" >&3
elif ((OURS)); then
  say "to use it in a shell: source \"$ROOT/.venv/bin/activate\""
fi
