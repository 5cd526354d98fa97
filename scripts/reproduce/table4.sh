#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Table 4 of the paper: bash scripts/reproduce/table4.sh [flags of run.py...]
set -euo pipefail
HERE="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
PY="${IQGS_PYTHON:-$(bash "$HERE/../setup.sh" --print-python)}"
exec "$PY" "$HERE/run.py" --table table4 "$@"
