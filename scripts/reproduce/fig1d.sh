#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Figure 1d of the paper: bash scripts/reproduce/fig1d.sh [flags of run.py...]
set -euo pipefail
HERE="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
PY="${IQGS_PYTHON:-$(bash "$HERE/../setup.sh" --print-python)}"
exec "$PY" "$HERE/run.py" --table fig1d "$@"
