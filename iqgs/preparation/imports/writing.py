# SPDX-License-Identifier: Apache-2.0
"""From an export of any kind to a folder that training reads: id maps, names, a record."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqgs.preparation.imports.records import (
    Export,
    Numbering,
    drawn,
    matched_images,
    number_objects,
)
from scene.masks import write_about
from scene.masks.files import mask_keys
from scene.masks.formats.pictures import id_suffix
from scene.readers.photo_files import listed
from scene.readers.posed import PosedImage
from utils.errors import DataError, FormatError
from utils.images import image_size, write_id_map
from utils.storage import atomic_folder, write_text


def write_export(export: Export, images: list[PosedImage], target: Path) -> list[str]:
    """Write the masks of an export for the photographs of a scene into `target`, atomically.

    Returns what the user should know. Raises DataError where no image of the export is a photograph
    of the scene, FormatError for damaged shapes.
    """
    names = [image.camera.name for image in images]
    matched = matched_images(export, names)
    if not matched:
        raise DataError(_nothing_fits(export, names))
    numbering = number_objects(export.images)
    keys, files = mask_keys(names), {image.camera.name: image.path for image in images}
    with atomic_folder(target) as folder:
        for place, name in sorted(matched.items()):
            ids = _label_map(export, place, numbering, files[name])
            suffix = id_suffix(int(ids.min()), int(ids.max()))
            write_id_map(folder / f"{keys[name]}{suffix}", ids)
        if numbering.names:
            text = {"id_to_name": {str(k): v for k, v in sorted(numbering.names.items())}}
            write_text(folder / "labels.json", json.dumps(text, indent=1) + "\n")
    details = {"made by": "check_masks", "export": export.kind, "images": len(matched)}
    write_about(target, numbering.coding, details)
    return [*export.notices, *numbering.notices, *_left_over(export, matched)]


def _label_map(
    export: Export, place: int, numbering: Numbering, photograph: Path
) -> NDArray[np.int32]:
    """The ids of one image [H, W]; where masks overlap the smallest owns a pixel."""
    image = export.images[place]
    width, height = image_size(photograph)
    try:
        layers = drawn(image, place, numbering, image.size or (height, width))
        return layers.to_label_map("small")
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise FormatError(f"{export.source}: image {image.name}: {error}") from error


def _nothing_fits(export: Export, names: list[str]) -> str:
    if export.in_order:
        return (
            f"{export.source}: {export.kind} with {len(export.images)} frames without names, but "
            f"there are {len(names)} photographs; export in a format with image names"
        )
    return (
        f"{export.source}: {export.kind} with {len(export.images)} images, such as "
        f"{export.images[0].name if export.images else 'none'}, but none of them is one of the "
        f"{len(names)} photographs, such as {names[0]}"
    )


def _left_over(export: Export, matched: dict[int, str]) -> list[str]:
    """Images of the export without a photograph, and how many objects were found."""
    others = [image.name for k, image in enumerate(export.images) if k not in matched]
    found = []
    if others:
        found.append(
            f"{len(others)} images of the export are no photographs here: {listed(others)}"
        )
    labels = Counter(
        item.label for k in matched for item in export.images[k].annotations if item.label
    )
    if labels:
        common = ", ".join(f"{label} ({count})" for label, count in labels.most_common(5))
        found.append(f"{sum(labels.values())} masks of {len(labels)} labels: {common}")
    return found
