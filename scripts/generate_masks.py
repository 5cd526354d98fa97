#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Propose masks for the photographs of a scene: `generate_masks.py -s SCENE --method sam ...`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.mask_commands import parse_generation_arguments

    params = parse_generation_arguments()

    from iqgs.engine.mask_preparation import propose_masks

    print(propose_masks(params))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
