#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Write a copy of a scene's masks with the faults of trackers: `degrade_masks.py SCENE ...`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from arguments.synthetic import parse_degrade_arguments  # noqa: E402
from scene.masks.degradation import degrade_folder  # noqa: E402
from utils.entry import run_command  # noqa: E402


def main() -> int:
    given, knobs = parse_degrade_arguments()
    print(
        degrade_folder(
            Path(given.scene), given.object_path, given.target, knobs, given.seed, given.overwrite
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
