# SPDX-License-Identifier: Apache-2.0
"""Masks that were drawn on upright pictures, beside photographs that are stored turned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scene.pictures import StoredPicture
from utils.errors import DataError
from utils.images import picture_header


def mask_turns(path: Path, picture: StoredPicture | None) -> tuple[int, ...]:
    """EXIF codes that bring a mask file's pixels to those that the poses see; mostly none.

    Raises DataError, naming the option that decides, where neither sizes nor tags tell.
    """
    if picture is None or picture.orientation == 1:
        return ()
    turns = picture.mask_turns(*picture_header(path))
    if turns is None:
        raise DataError(_undecided(path, picture, 1))
    return turns


def note_turned_masks(
    masks: Sequence[tuple[Path, StoredPicture | None]], notices: list[str]
) -> None:
    """Say once which masks are turned; DataError where it cannot be known whether they must be."""
    turned, undecided = [], []
    for path, picture in masks:
        if picture is None or picture.orientation == 1:
            continue
        turns = picture.mask_turns(*picture_header(path))
        if turns is None:
            undecided.append((path, picture))
        elif turns:
            turned.append(picture.orientation)
    if undecided:
        raise DataError(_undecided(*undecided[0], len(undecided)))
    if turned:
        tags = ", ".join(str(tag) for tag in sorted(set(turned)))
        notices.append(
            f"{len(turned)} of {len(masks)} masks are turned by the EXIF orientation ({tags}) of "
            "their photographs"
        )


def _undecided(path: Path, picture: StoredPicture, count: int) -> str:
    return (
        f"{path}: its photograph has EXIF orientation {picture.orientation}, and nothing tells "
        f"whether the mask is of the stored or of the upright picture ({count} such masks); pass "
        "--mask_orientation upright for masks drawn on pictures that stand upright, as most tools "
        "show them, or --mask_orientation stored for masks of the files' own pixels"
    )
