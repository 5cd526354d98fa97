# SPDX-License-Identifier: Apache-2.0
"""Write the pictures of a run: `render.py -m RUN`. See `--help`, and the README for the files."""

from __future__ import annotations

import sys

from utils.entry import quick_imports, run_command


def main() -> int:
    from arguments.rendering import parse_render_arguments

    params, overrides = parse_render_arguments()

    with quick_imports():
        from iqgs.engine.opening import open_for
        from iqgs.engine.pictures.views import render_run

    for path in render_run(open_for(params.model_path, params, overrides), params):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
