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

# kind -> severity, what it means, and what to do. Errors stop the loading, warnings become notices.
KINDS = {
    "none": (
        "error",
        "no image has a mask",
        "put one mask for each image into the folder, name another folder with -o, or make masks "
        "with scripts/generate_masks.py",
    ),
    "shared": (
        "error",
        "two images would use one mask file",
        "keep the sub-folders of the images in the mask folder",
    ),
    "unreadable": (
        "error",
        "a file is damaged, empty or of no known format",
        "write the file again from where it was made, or remove it: views without a mask train "
        "colour only",
    ),
    "lossy": (
        "error",
        "a file is compressed with loss",
        "write the masks as PNG from where they were made",
    ),
    "picture": (
        "error",
        "a picture for people instead of ids",
        "export the label maps and not their visualisation",
    ),
    "data set": (
        "error",
        "one file holds the masks of many images",
        "read it with scripts/check_masks.py --import_path FILE --convert FOLDER",
    ),
    "ids": ("error", "numbers that cannot be ids", "write ids as whole numbers, 0 for no object"),
    "mixed": (
        "error",
        "some files hold numbers and others colours",
        "write all masks in the same way",
    ),
    "orientation": (
        "error",
        "nothing tells how a mask stands to its turned photograph",
        "save the masks in the orientation in which the photographs are seen",
    ),
    "size": (
        "error",
        "a mask belongs to an image of another shape",
        "put masks and images of the same names and sides together again",
    ),
    "missing": (
        "warning",
        "some images have no mask",
        "add them, or leave it: such views train colour only",
    ),
    "unmatched": (
        "warning",
        "files that fit no image",
        "name them after their images (000.png for 000.jpg), or remove them",
    ),
    "turned": (
        "warning",
        "masks are turned as their photographs' EXIF orientation says",
        "nothing, unless they were not made on the turned photographs",
    ),
    "resampled": (
        "warning",
        "masks a pixel larger or smaller than their images",
        "nothing, unless outlines must be exact: then make the masks at the images' size",
    ),
    "empty": ("warning", "no mask holds an object", "look whether the right folder is named"),
    "untrained": (
        "warning",
        "ids that no training view shows",
        "nothing, or another split: such objects cannot be learned",
    ),
    "single": (
        "warning",
        "ids that one view alone shows",
        "look at them: a tracker may have lost them (scripts/associate_masks.py joins masks)",
    ),
    "specks": (
        "warning",
        "most ids cover a few pixels only",
        "resize masks to the nearest pixel, and save them without loss",
    ),
    "palettes": (
        "warning",
        "files give one index different colours",
        "save the masks as RGB if the colours are what objects keep",
    ),
    "colors": (
        "warning",
        "colours stand for ids",
        "nothing, or --convert them to numbers with scripts/check_masks.py",
    ),
    "fresh": (
        "warning",
        "every view numbers its objects anew",
        "join them with scripts/associate_masks.py, or train with --matching hungarian",
    ),
    "overlapping": (
        "warning",
        "lists of masks are flattened to one id a pixel",
        "nothing, or flatten them yourself",
    ),
    "unused label": (
        "warning",
        "no mask holds the value of --ignore_label",
        "look whether the value is right",
    ),
    "scaled": ("info", "masks of another size than the images", "nothing"),
    "empty view": ("info", "masks without any object", "nothing"),
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

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return KINDS[self.kind][2]


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


def shape_finding(
    path: Path, size: tuple[int, int], camera: Camera, seen: tuple[int, int] | None = None
) -> Finding | None:
    """Whether a mask of `size` (width, height) can belong to the camera's image.

    seen: size of the picture that the poses see, if it is not the camera's.
    """
    width, height = size
    shown = (camera.width, camera.height) if seen is None else seen
    if size in (shown, (camera.width, camera.height)):
        return None
    error = abs((width * shown[1]) / (height * shown[0]) - 1)
    expected = shown[1] * width / shown[0]
    if error > MAX_ASPECT_ERROR and abs(expected - height) > 1:
        return Finding(
            "size",
            f"{path}: the mask has {width}x{height} pixels but image {camera.name!r} has "
            f"{shown[0]}x{shown[1]}; the aspect ratios differ by {error:.1%}, so "
            "this mask was made for another image",
            (path,),
        )
    near = max(abs(width - shown[0]), abs(height - shown[1])) <= 1
    sizes = f"{path.name}: {width}x{height} for {shown[0]}x{shown[1]}"
    return Finding("resampled" if near else "scaled", sizes, (path,))
