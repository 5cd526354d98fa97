#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Write every object of a run: `objects.py -m RUN` fills RUN/objects.

For each object its splats (PLY for viewers), a mesh and a hull (GLB) and a picture; objects.json
lists them, and index.html is a page to click through. See docs/exports.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.exporting import parse_objects_arguments

    params = parse_objects_arguments()

    from iqgs.engine.objects.folder import write_objects
    from iqgs.engine.opening import open_for

    for line in write_objects(open_for(params.model_path, params), params):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
