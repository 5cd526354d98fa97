#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Run the cells of a table of the paper and write the table: see README.md beside this file."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.reproduction import parse_reproduction_arguments

    params = parse_reproduction_arguments()

    from iqgs.engine.reproduction.command import reproduce

    page, code = reproduce(params)
    sys.stdout.write(page)
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
