# SPDX-License-Identifier: Apache-2.0
"""Write the pictures of a run: `render.py -m RUN`. See `--help`, and the README for the files."""

from __future__ import annotations

import sys

from arguments.rendering import parse_render_arguments
from iqgs.engine.checkpoint import load_run
from iqgs.engine.rendering import render_run
from utils.logs import run_door


def main() -> int:
    params, overrides = parse_render_arguments()
    run = load_run(params.model_path, params.iteration, overrides)
    for path in render_run(run, params):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))
