# SPDX-License-Identifier: Apache-2.0
"""Reconstruct a scene and learn its instances: `train.py -s SCENE -m RUN`. See `--help`."""

from __future__ import annotations

import sys

from utils.entry import for_many_processes, quick_imports, run_command


@for_many_processes
def main() -> int:
    with quick_imports():
        from iqgs.engine.settings import parse_training_arguments
        from iqgs.engine.training import train

    return train(parse_training_arguments(str(__doc__)))


if __name__ == "__main__":
    sys.exit(run_command(main))
