#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Cut one object out of a run: `extract_object.py -m RUN --id N` writes its splats as a PLY.

The file is made for viewers of 3D Gaussians: their columns, turned so that up is -y.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.exporting import parse_extract_arguments

    params = parse_extract_arguments()

    from iqgs.engine.objects.extraction import extract_object
    from iqgs.engine.opening import open_for

    print(extract_object(open_for(params.model_path, params), params))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
