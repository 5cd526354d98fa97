#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Find the objects that texts mean: `find_text.py -m RUN --prompts "red cup" --masks FOLDER`.

Masks of the texts in some views come from a folder or a program, or a model of the CLIP family
scores pictures of the objects. Writes RUN/text.json, and masks of the held-out views for
`evaluate.py --protocol lerf-mask`. See docs/text.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.entry import run_command  # noqa: E402


def main() -> int:
    from arguments.text import parse_text_arguments

    params, overrides = parse_text_arguments()

    from iqgs.engine.opening import open_for
    from iqgs.engine.text.finding import find_text

    print("\n".join(find_text(open_for(params.model_path, params, overrides), params)))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
