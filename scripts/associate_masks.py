#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Give masks of different views one id for each object: `associate_masks.py -s SCENE`.

Masks with fresh ids in every view, or with the slips of a tracker, come out as 16-bit id maps that
agree, with a report of how sure each object is.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.association import parse_association_arguments

    params = parse_association_arguments()

    from iqgs.engine.association_run import associate_scene

    print("\n".join(associate_scene(params).lines()))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
