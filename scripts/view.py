#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Look at a run in the browser: `view.py -m RUN`. Needs `pip install viser`; see docs/viewer.md."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.viewing import parse_view_arguments

    params = parse_view_arguments()

    from iqgs.viewer.live import require_viser

    require_viser()  # before a large run is opened for nothing

    from iqgs.engine.objects.live import serve
    from iqgs.engine.opening import open_for

    serve(open_for(params.model_path, params), params)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
