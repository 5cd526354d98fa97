# SPDX-License-Identifier: Apache-2.0
"""The commands of an installed IQGS. A new script gets one by a line here: it needs a `main()`
without parameters that returns the exit code."""

from __future__ import annotations

from pathlib import PurePosixPath

DOORS = {
    "iqgs-train": "train.py",
    "iqgs-render": "render.py",
    "iqgs-evaluate": "evaluate.py",
    "iqgs-prepare-masks": "scripts/prepare_masks.py",
    "iqgs-generate-masks": "scripts/generate_masks.py",
    "iqgs-associate-masks": "scripts/associate_masks.py",
    "iqgs-check-masks": "scripts/check_masks.py",
    "iqgs-convert": "scripts/convert.py",
    "iqgs-edit": "scripts/edit.py",
    "iqgs-extract-object": "scripts/extract_object.py",
    "iqgs-export-html": "scripts/export_html.py",
    "iqgs-find-text": "scripts/find_text.py",
    "iqgs-view": "scripts/view.py",
    "iqgs-export": "scripts/export.py",
    "iqgs-objects": "scripts/objects.py",
    "iqgs-degrade-masks": "scripts/degrade_masks.py",
    "iqgs-make-synthetic-scene": "scripts/make_synthetic_scene.py",
}
PACKAGE = "iqgs.doors"
CONSOLE = '''

def console() -> int:
    """What the installed command runs."""
    from iqgs.utils.entry import run_command as run

    return run(main)
'''


def module_of(path: str) -> str:
    """train.py -> train."""
    return PurePosixPath(path).stem


def entry_points() -> list[str]:
    """As setuptools wants them."""
    return [f"{name} = {PACKAGE}.{module_of(path)}:console" for name, path in DOORS.items()]


def program_names() -> dict[str, str]:
    """What a door calls itself in the repository -> the command."""
    return {PurePosixPath(path).name: name for name, path in DOORS.items()}
