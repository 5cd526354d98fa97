# SPDX-License-Identifier: Apache-2.0
"""Findings about masks: what they can be about, and what becomes of them.

Loading a scene refuses errors and passes warnings on as notices; a tool may print them all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from scene.cameras import Camera
from utils.errors import MaskError

# kind -> severity, and what it means. Errors stop the loading, warnings become notices.
KINDS = {
    "none": ("error", "no image has a mask"),
    "shared": ("error", "two images would use one mask file"),
    "unreadable": ("error", "a file is damaged, empty or of no known format"),
    "lossy": ("error", "a file is compressed with loss"),
    "picture": ("error", "a picture for people instead of ids"),
    "data set": ("error", "one file holds the masks of many images"),
    "ids": ("error", "numbers that cannot be ids"),
    "mixed": ("error", "some files hold numbers and others colours"),
    "size": ("error", "a mask belongs to an image of another shape"),
    "missing": ("warning", "some images have no mask"),
    "unmatched": ("warning", "files that fit no image"),
    "resampled": ("warning", "masks a pixel larger or smaller than their images"),
    "empty": ("warning", "no mask holds an object"),
    "untrained": ("warning", "ids that no training view shows"),
    "single": ("warning", "ids that one view alone shows"),
    "specks": ("warning", "most ids cover a few pixels only"),
    "palettes": ("warning", "files give one index different colours"),
    "colors": ("warning", "colours stand for ids"),
    "overlapping": ("warning", "lists of masks are flattened to one id a pixel"),
    "unused label": ("warning", "no mask holds the value of --ignore_label"),
    "scaled": ("info", "masks of another size than the images"),
    "empty view": ("info", "masks without any object"),
}
# A mask whose shape differs by more belongs to another image (a one-pixel rounding does not).
MAX_ASPECT_ERROR = 0.01
NAMED = 5  # so many files or ids are listed in a message before the count takes over


@dataclass(frozen=True)
class Finding:
    """Something that the user should know or mend, in one sentence."""

    kind: str  # one of KINDS
    sentence: str
    files: tuple[Path, ...] = ()

    @property
    def severity(self) -> str:
        """error | warning | info."""
        return KINDS[self.kind][0]


def listed(things: Collection[object]) -> str:
    """The first five, and how many more there are."""
    more = f" and {len(things) - NAMED} more" if len(things) > NAMED else ""
    return ", ".join(str(thing) for thing in list(things)[:NAMED]) + more


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Raise the first error as a MaskError that also counts the others."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return
    first, more = errors[0], len(errors) - 1
    files = f" ({more} more mask file{'s have' if more > 1 else ' has'} faults)" if more else ""
    raise MaskError(first.sentence + files, first.kind)


def shape_finding(path: Path, size: tuple[int, int], camera: Camera) -> Finding | None:
    """Whether a mask of `size` (width, height) can belong to the camera's image."""
    width, height = size
    if size == (camera.width, camera.height):
        return None
    error = abs((width * camera.height) / (height * camera.width) - 1)
    expected = camera.height * width / camera.width
    if error > MAX_ASPECT_ERROR and abs(expected - height) > 1:
        return Finding(
            "size",
            f"{path}: the mask has {width}x{height} pixels but image {camera.name!r} is rendered "
            f"with {camera.width}x{camera.height}; the aspect ratios differ by {error:.1%}, so "
            "this mask was made for another image",
            (path,),
        )
    near = max(abs(width - camera.width), abs(height - camera.height)) <= 1
    sizes = f"{path.name}: {width}x{height} for {camera.width}x{camera.height}"
    return Finding("resampled" if near else "scaled", sizes, (path,))
