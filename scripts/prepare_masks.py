#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""From photographs with poses to masks to train on: `prepare_masks.py -s SCENE --method sam ...`.

Proposes masks where there are none (generate_masks.py), joins them over all views
(associate_masks.py) and reports what is wrong with them (check_masks.py). The exit code is 2 where
training could not go on, else 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import USAGE_EXIT, run_command  # noqa: E402


def main() -> int:
    from arguments.mask_commands import parse_prepare_arguments

    params, generation = parse_prepare_arguments()

    from iqgs.engine.mask_preparation import prepare_masks

    prepared = prepare_masks(params, generation)
    print("\n".join(prepared.lines(params.verbose)))
    return USAGE_EXIT if prepared.report.stops_training else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
