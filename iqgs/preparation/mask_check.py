# SPDX-License-Identifier: Apache-2.0
"""One report about the masks of a scene, and their conversion to what training reads.

What can be wrong is found by `scene.masks`, as at the start of training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from arguments import ModelParams
from arguments.masks import CheckParams
from iqgs.preparation.imports import find_export
from iqgs.preparation.imports.archives import unpacked
from iqgs.preparation.imports.writing import write_export
from iqgs.preparation.scene_images import scene_images
from scene.masks import (
    Finding,
    MaskCollection,
    MaskRequest,
    collect_masks,
    labels_file,
    write_about,
)
from scene.masks.files import mask_keys
from scene.masks.formats import PICTURE_SUFFIXES
from scene.masks.formats.pictures import id_suffix
from scene.masks.reading import numbered_pixels
from scene.readers.posed import PosedImage
from scene.splits import split_names
from utils.errors import UserError
from utils.images import picture_header, write_id_map
from utils.storage import atomic_folder, write_text

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, eq=False)
class MaskReport:
    """What was found, and where the masks are."""

    folder: Path
    images: int
    masks: int
    ids: int
    is_fresh: bool  # every view numbers its objects anew
    findings: tuple[Finding, ...]
    notices: tuple[str, ...]
    written: Path | None  # by --convert

    @property
    def stops_training(self) -> bool:
        """Whether there is any error."""
        return any(finding.severity == "error" for finding in self.findings)

    def lines(self, verbose: bool) -> Iterator[str]:
        """The report in words; with `verbose` each file of a finding has its line."""
        numbers = "numbered anew in each" if self.is_fresh else "the same in all of them"
        yield (
            f"{self.folder}: masks for {self.masks} of {self.images} images, {self.ids} ids, "
            f"{numbers}"
        )
        for notice in self.notices:
            yield f"note: {notice}"
        for severity in SEVERITIES:
            for finding in self.findings:
                if finding.severity == severity:
                    yield f"{severity}: {finding.sentence}"
                    if finding.remedy != "nothing":
                        yield f"    what to do: {finding.remedy}"
                    if verbose:
                        yield from (f"    {path}" for path in finding.files)
        if self.written is not None:
            yield f"written: {self.written}"
        yield "training cannot go on" if self.stops_training else "training can go on"


def check_masks(params: CheckParams, scene: ModelParams) -> MaskReport:
    """Import if asked, look at all masks, convert if asked.

    Raises UserError, DataError or FormatError where nothing can be looked at.
    """
    notices: list[str] = []
    images = scene_images(scene, notices)
    target = Path(scene.source_path) / params.convert
    if params.convert:
        _check_target(target, images, params.overwrite)
    written = None
    with unpacked(Path(params.import_path)) as path:
        if params.import_path:
            found = find_export(path, [image.camera.name for image in images])
            if isinstance(found, Path):  # one file an image: as any other folder of masks
                scene = replace(scene, object_path=str(found.resolve()))
            else:
                importer, where = found
                notices += write_export(importer.read(where), images, target)
                scene, written = replace(scene, object_path=params.convert), target
        collection = find_masks(images, scene)
        if params.convert and written is None:
            written = convert(collection, images, target)
    folder = Path(scene.source_path) / scene.object_path
    if params.import_path and folder != target:  # read from where it may be gone by now
        folder = Path(params.import_path)
    return MaskReport(
        folder,
        len(images),
        len(collection.masks),
        len(collection.table),
        collection.is_fresh,
        collection.findings,
        tuple(notices),
        written,
    )


def find_masks(images: list[PosedImage], scene: ModelParams) -> MaskCollection:
    """The masks of a scene's images with everything that is wrong with them."""
    source = Path(scene.source_path)
    folder = source / scene.object_path
    request = MaskRequest(
        folder,
        labels_file(source, folder),
        scene.zero_label,
        scene.ignore_label,
        keep=False,
        colors={},
    )
    held_out = {image.camera.name for image in images if image.held_out}
    train, _ = split_names([image.camera.name for image in images], held_out, scene)
    pictures = {image.camera.name: image.picture for image in images}
    return collect_masks(request, [image.camera for image in images], train, pictures)


def _check_target(target: Path, images: list[PosedImage], overwrite: bool) -> None:
    if any(image.path.resolve().is_relative_to(target.resolve()) for image in images):
        raise UserError(f"{target}: holds photographs; masks go to a folder of their own")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise UserError(f"{target}: is there already; name another folder, or pass --overwrite")


def convert(collection: MaskCollection, images: list[PosedImage], target: Path) -> Path | None:
    """Write all masks that can be read as id maps into `target`; None where there are errors.

    The numbers are those of the files. PNG of 16 bits holds 0 to 65535; where pixels without a
    target or larger ids are among them, a map becomes a TIFF of 32 bits.
    """
    if any(finding.severity == "error" for finding in collection.findings):
        return None
    keys = mask_keys([image.camera.name for image in images])
    with atomic_folder(target) as folder:
        for name, mask in collection.masks.items():
            pixels, numbers = numbered_pixels(mask.path, collection.table, mask)
            ids = pixels.renumbered(numbers.astype(np.int32), *pixels.size)
            suffix = id_suffix(int(ids.min()), int(ids.max()))
            is_picture = mask.path.suffix.lower() in PICTURE_SUFFIXES
            tag = picture_header(mask.path)[2] if is_picture else None
            write_id_map(folder / f"{keys[name]}{suffix}", ids, tag)
        names = {str(number): name for number, name in collection.table.names.items()}
        if names:
            write_text(folder / "labels.json", json.dumps({"id_to_name": names}, indent=1) + "\n")
        if collection.table.colors:
            collection.table.save(folder / "ids.json")
    coding = "view" if collection.is_fresh else "ids"
    write_about(target, coding, {"made by": "check_masks", "masks": len(collection.masks)})
    return target
