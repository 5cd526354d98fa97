# SPDX-License-Identifier: Apache-2.0
"""Reconstruct a scene and learn its instances: `train.py -s SCENE -m RUN`. See `--help`."""

from __future__ import annotations

import sys
from pathlib import Path

from arguments import OneLineParser, add_groups, parse_command_line, read_config_file, resolve
from iqgs.engine.checkpoint import going_on_settings
from iqgs.engine.training import train
from utils.logs import run_door


def main() -> int:
    parser = OneLineParser(prog="train.py", description=__doc__)
    add_groups(parser)
    typed = parse_command_line(parser)
    layers = [going_on_settings(typed)]
    if typed.get("config_file"):
        layers.append(read_config_file(Path(typed["config_file"])))
    return train(resolve(*layers, typed))


if __name__ == "__main__":
    sys.exit(run_door(main))
