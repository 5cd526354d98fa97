# SPDX-License-Identifier: Apache-2.0
"""Proposals for all photographs of a scene, as files: id maps, and lists of masks that may overlap.

What is finished is not done again; the record beside the folder tells the settings. Masks have the
orientation of the stored photograph, and say so in their own tag where that is not upright.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from arguments.mask_commands import GenerationParams
from arguments.masks import layers_folder
from iqgs.preparation.proposals.merging import flatten, merge
from iqgs.preparation.proposals.protocol import Proposer
from iqgs.preparation.proposals.sheet import contact_sheet, masks_over, tile_size
from iqgs.preparation.scene_images import orientation_of, scene_images, upright_pixels
from scene.masks import (
    FORMATS,
    MaskContent,
    MaskLayers,
    present_ids,
    read_about,
    read_mask_file,
    write_about,
)
from scene.masks.files import mask_keys
from scene.masks.formats.pictures import id_suffix
from scene.readers.posed import PosedImage
from utils.errors import UserError
from utils.images import resize_id_map, write_id_map, write_pixels
from utils.orientation import SWAPPING, turned, undoing
from utils.progress import tqdm
from utils.storage import sweep_stale

logger = logging.getLogger(__name__)
MAP_SUFFIXES = (".png", ".tiff")
Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Job:
    """The photographs, and where their masks go."""

    images: list[PosedImage]  # in the order of their names
    keys: dict[str, str]  # image name -> name of its mask without a suffix
    maps: Path
    layers: Path | None
    params: GenerationParams

    @property
    def folders(self) -> list[Path]:
        """All folders that are written to."""
        return [folder for folder in (self.maps, self.layers) if folder is not None]

    @property
    def is_new(self) -> bool:
        """Whether nothing of earlier masks stays."""
        return self.params.proposals.overwrite and not self.params.proposals.only

    def map_file(self, image: PosedImage) -> Path | None:
        """The finished id map of a photograph."""
        key = self.keys[image.camera.name]
        files = (self.maps / f"{key}{suffix}" for suffix in MAP_SUFFIXES)
        return next((path for path in files if path.is_file()), None)

    def layers_file(self, image: PosedImage) -> Path | None:
        """Where the overlapping masks of a photograph are or will be."""
        return self.layers and self.layers / f"{self.keys[image.camera.name]}.json"


def generate_masks(params: GenerationParams, make: Callable[[], Proposer]) -> Path:
    """Propose masks for the photographs of a scene; returns the folder of the id maps.

    `make` is called if there is anything to do. Raises UserError, DataError, RunError.
    """
    notices: list[str] = []
    job = open_job(params, notices)
    for notice in notices:
        logger.info("%s", notice)
    todo = unfinished(job)
    if len(todo) < len(job.images):
        done = len(job.images) - len(todo)
        logger.info("%d of %d photographs are done already", done, len(job.images))
    if todo:
        proposer = make()  # before anything is removed: weights may be missing
        if proposer.coding == "ids":
            _go_on(proposer, job, todo)
        _clear(job)
        details = {"made by": "generate_masks", "settings": params.settings()}
        write_about(job.maps, proposer.coding, details)
        counts = [
            propose_one(job, image, proposer)
            for image in tqdm(todo, desc="Masks", disable=params.proposals.quiet)
        ]
        logger.info("%s: %.1f masks and %.1f ids for a photograph", job.maps, *np.mean(counts, 0))
    if params.proposals.contact_sheet:
        write_pixels(sheet_file(job), sheet_of(job))
    return job.maps


def open_job(params: GenerationParams, notices: list[str]) -> Job:
    """The photographs to work on; refuses folders that are not ours. UserError, DataError."""
    chosen, source = params.proposals, Path(params.scene.source_path)
    images = scene_images(params.scene, notices)
    keys = mask_keys([image.camera.name for image in images])
    if chosen.only:
        images = [image for image in images if _is_wanted(image.camera.name, chosen.only)]
        if not images:
            raise UserError(
                f"--only {' '.join(chosen.only)}: fits none of the {len(keys)} photographs, as "
                f"{next(iter(keys))}"
            )
    layers = source / layers_folder(chosen.object_path) if chosen.layers else None
    job = Job(images, keys, source / chosen.object_path, layers, params)
    for folder in job.folders:
        _check_folder(folder, job)
    record = read_about(job.maps)
    if record is not None and not job.is_new and _has_files(job.maps):
        _check_settings(job, record.get("settings"))
    return job


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _is_wanted(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns fits a name, or its last part."""
    return any(fnmatchcase(part, p) for p in patterns for part in (name, name.split("/")[-1]))


def _check_folder(folder: Path, job: Job) -> None:
    """Nothing of another program is written over, and no photograph ever."""
    here = folder.resolve()
    if any(image.path.resolve().is_relative_to(here) for image in job.images):
        raise UserError(f"{folder}: holds photographs; masks go to a folder of their own")
    if not job.is_new and _has_files(folder) and read_about(job.maps) is None:
        raise UserError(
            f"{folder}: holds masks of another program; name another folder, or pass --overwrite"
        )


def _check_settings(job: Job, before: object) -> None:
    """Masks of two settings in one folder would pass for masks of one."""
    now = job.params.settings()
    if before == now:
        return
    known = before if isinstance(before, dict) else {}
    changed = [
        f"--{name} was {known.get(group, {}).get(name)!r} and is {value!r}"
        for group, values in now.items()
        for name, value in values.items()
        if group in known and _plain(known.get(group, {}).get(name)) != _plain(value)
    ]
    if changed or set(known) != set(now):
        raise UserError(
            f"{job.maps}: made with other settings ({'; '.join(changed[:3]) or 'another method'}); "
            "pass --overwrite (without --only) to start anew, or -o to write elsewhere"
        )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def unfinished(job: Job) -> list[PosedImage]:
    """The photographs without masks; of a video all from the first of them on."""
    if job.params.proposals.overwrite:
        return job.images
    missing = [k for k, image in enumerate(job.images) if job.map_file(image) is None]
    if job.params.proposals.video and missing:
        return job.images[missing[0] :]
    return [job.images[k] for k in missing]


def _clear(job: Job) -> None:
    """Remove what is made anew, and what a kill left."""
    for folder in job.folders:
        if job.is_new:
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.is_dir():
            sweep_stale(folder)


def _go_on(proposer: Proposer, job: Job, todo: list[PosedImage]) -> None:
    """Let a proposer that follows objects know those of the last finished photograph."""
    done = job.images[: len(job.images) - len(todo)]
    maps = [_read_map(job, image) for image in done]
    if maps:
        used = max(max(present_ids(ids), default=0) for ids in maps)
        image = upright_pixels(done[-1], job.params.scene.resolution)
        proposer.go_on(image, resize_id_map(maps[-1], image.shape[1], image.shape[0]), used)


def _read_map(job: Job, image: PosedImage) -> Ids:
    """The finished ids of a photograph, upright."""
    path = job.map_file(image)
    assert path is not None
    ids = read_mask_file(path).flat().map().astype(np.int32)
    return turned(ids, orientation_of(image))


def propose_one(job: Job, image: PosedImage, proposer: Proposer) -> tuple[int, int]:
    """Propose, merge and write the masks of one photograph; how many masks, how many ids."""
    params = job.params
    layers = proposer.propose(upright_pixels(image, params.scene.resolution))
    layers = merge(layers, params.merging)
    if proposer.coding == "view":  # numbered as the lists are read again
        layers = replace(layers, source=np.arange(1, len(layers) + 1))
    ids = flatten(layers, params.merging, layers.source)
    code = orientation_of(image)
    path = job.layers_file(image)
    if path is not None:
        path.unlink(missing_ok=True)
        if len(layers):
            content = MaskContent.of_layers(_turned(layers, undoing(code)), proposer.coding)
            FORMATS["sam_list"].write(path, content)
    suffix = id_suffix(int(ids.min()), int(ids.max()))
    target = job.maps / f"{job.keys[image.camera.name]}{suffix}"
    # Last: it is what tells that this photograph is done.
    write_id_map(target, turned(ids, undoing(code)), code if code != 1 else None)
    return len(layers), len(present_ids(ids))


def _turned(layers: MaskLayers, code: int) -> MaskLayers:
    """The masks turned as an EXIF code says."""
    if code == 1:
        return layers
    size = layers.width, layers.height
    width, height = size[::-1] if code in SWAPPING else size
    return layers.mapped(lambda mask, _: turned(mask, code), width, height)


def sheet_file(job: Job) -> Path:
    """The picture of all masks, beside their folder."""
    return job.maps.with_name(f"{job.maps.name}_sheet.png")


def sheet_of(job: Job) -> NDArray[np.uint8]:
    """The masks of some photographs, evenly chosen, over them: [H, W, 3]."""
    count = min(job.params.proposals.contact_sheet, len(job.images))
    chosen = [job.images[k] for k in np.linspace(0, len(job.images) - 1, count).round().astype(int)]
    tiles = []
    for image in chosen:
        pixels = upright_pixels(image, job.params.scene.resolution)
        width, height = tile_size(pixels.shape[1], pixels.shape[0])
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        path = job.layers_file(image)
        if path is None or not path.is_file():
            layers = MaskLayers.from_label_map(_read_map(job, image))
        else:
            layers = _turned(read_mask_file(path).as_layers(), orientation_of(image))
        tiles.append(masks_over(np.asarray(small, np.uint8), layers))
    return contact_sheet(tiles)
