#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""List, cut out and edit the objects of a run: `edit.py COMMAND -m RUN --id chair ...`.

Edits are lines of RUN/edits.jsonl that every command replays; `undo` takes the last one back.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.editing import parse_edit_arguments

    command, params = parse_edit_arguments()

    from iqgs.engine.objects.commands import run_edit_command
    from iqgs.engine.opening import open_for

    print("\n".join(run_edit_command(command, open_for(params.model_path, params), params)))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
