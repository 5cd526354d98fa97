#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Sets up what is missing and runs the tests. Further arguments go to pytest:
#
#   bash scripts/test.sh
#   bash scripts/test.sh tests/rasterizer -k gradient
set -euo pipefail

case "${1:-}" in -h | --help) sed -n '4,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac
ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
PY="${IQGS_PYTHON:-$(bash "$ROOT/scripts/setup.sh" --dev --print-python)}"
cd -- "$ROOT"
exec "$PY" -m pytest "$@"
