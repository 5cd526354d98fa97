# SPDX-License-Identifier: Apache-2.0
"""Score runs and print their table: `evaluate.py -m RUN [RUN ...]`. See `--help`."""

from __future__ import annotations

import sys

from arguments.evaluation import parse_evaluation_arguments
from iqgs.engine.results import evaluate_runs, write_table
from utils.logs import run_door


def main() -> int:
    params = parse_evaluation_arguments()
    text, code = evaluate_runs(params)
    if params.output:
        write_table(text, params.output)
    else:
        sys.stdout.write(text)
    return code


if __name__ == "__main__":
    sys.exit(run_door(main))
