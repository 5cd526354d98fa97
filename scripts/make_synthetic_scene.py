#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Ray-cast a furnished room into a scene folder: `make_synthetic_scene.py OUT [--seed 0] ...`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    # Imported here because the ray-casting processes load this file too, and need none of it.
    from arguments.synthetic import parse_synthetic_arguments
    from scene.synthetic.writer import make_scene

    print(make_scene(parse_synthetic_arguments()))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from utils.entry import run_command

    sys.exit(run_command(main))
