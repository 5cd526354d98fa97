#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Write a run as one HTML file: `export_html.py -m RUN`. A browser opens it, without a server.

Turn, move and zoom; click an object to pick, hide or isolate it. See docs/viewer.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.viewing import parse_page_arguments

    params = parse_page_arguments()

    from iqgs.engine.objects.page import write_page
    from iqgs.engine.opening import open_for

    print(write_page(open_for(params.model_path, params), params))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
