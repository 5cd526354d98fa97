#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Write a run, or some of its objects, for other programs: `export.py -m RUN --id chair -o FILE`.

The suffix of FILE is the format: PLY, glTF (.glb), OpenUSD (.usd, .usda, .usdz), and packed ones
where splat-transform is installed. With `--mesh` surfaces instead of splats. See docs/exports.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.exporting import parse_export_arguments

    params = parse_export_arguments()

    from iqgs.engine.objects.exporting import export

    print(export(params))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
