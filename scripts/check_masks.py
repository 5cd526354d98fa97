#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Report what is wrong with a scene's masks, import and convert them: `check_masks.py -s SCENE`.

The exit code is 2 where training could not go on, else 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import USAGE_EXIT, run_command  # noqa: E402


def main() -> int:
    from arguments.mask_commands import parse_check_arguments

    params, scene = parse_check_arguments()

    from iqgs.preparation.mask_check import check_masks

    report = check_masks(params, scene)
    print("\n".join(report.lines(params.verbose)))
    return USAGE_EXIT if report.stops_training else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
