#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Find the poses of photographs and leave a scene to train on: `convert.py -s FOLDER ...`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.conversion import parse_conversion_arguments

    params = parse_conversion_arguments()

    from iqgs.preparation.poses import convert

    print(convert(params))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
