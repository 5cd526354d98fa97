# SPDX-License-Identifier: Apache-2.0
"""Score runs and print their table: `evaluate.py -m RUN [RUN ...]`. See `--help`."""

from __future__ import annotations

import sys

from utils.entry import quick_imports, run_command


def main() -> int:
    from arguments.evaluation import parse_evaluation_arguments

    params, overrides = parse_evaluation_arguments()

    with quick_imports():
        from iqgs.engine.scoring.results import evaluate_runs, write_table

    text, code = evaluate_runs(params, overrides)
    if params.output:
        write_table(text, params.output)
    else:
        sys.stdout.write(text)
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
