# SPDX-License-Identifier: Apache-2.0
"""Links inside a folder that was made elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from utils.errors import DataError


def refuse_links_out(folder: Path) -> None:
    """DataError for a link below `folder` that leads out of it; the folder may be a link itself.

    A folder may be somebody else's: what is written or read in it must not reach files elsewhere.
    """
    root = folder.resolve()
    for parent, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise DataError(
                    f"{folder / path.relative_to(root)}: a link out of the run's folder; put what "
                    "it points to in its place (the run's folder itself may be a link)"
                )


def check_inside(path: Path, folder: Path, scene: Path) -> None:
    """Refuse a link that leads out of both the scene and the folder (which may be a link itself).

    A scene may be somebody else's: its names must not reach files elsewhere on the disk.
    """
    target = path.resolve()
    if not any(target.is_relative_to(root.resolve()) for root in (folder, scene)):
        raise DataError(
            f"{path}: a link out of {folder}; copy the file there, or make the folder itself a link"
        )
