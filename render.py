# SPDX-License-Identifier: Apache-2.0
"""Write the pictures of a run: `render.py -m RUN`. See `--help`, and the README for the files."""

from __future__ import annotations

import sys

from arguments.rendering import parse_render_arguments
from iqgs.engine.checkpoint import load_run
from iqgs.engine.rendering import render_run
from iqgs.engine.setup import choose_device
from utils.logs import run_door


def main() -> int:
    params, overrides = parse_render_arguments()
    device = str(choose_device(params.device))
    run = load_run(params.model_path, params.iteration, overrides, device)
    for path in render_run(run, params):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))
