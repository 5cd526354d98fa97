# SPDX-License-Identifier: Apache-2.0
"""The masks of a scene: found, read once, numbered and checked."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scene.cameras import Camera
from scene.masks.about import about_path, read_about
from scene.masks.check import content_findings, id_findings, joined_findings, name_findings
from scene.masks.files import match_mask_files
from scene.masks.findings import Finding, refuse_errors, shape_finding
from scene.masks.formats import EXACT_SUFFIXES
from scene.masks.ids import IdTable, numbered_colors, read_label_names
from scene.masks.orientation import mask_turns
from scene.masks.reading import (
    ReadMask,
    first_reading,
    numbered_pixels,
    read_label_map,
    turned_size,
)
from scene.masks.records import NO_TARGET
from scene.pictures import StoredPicture
from utils.errors import DataError, MaskError
from utils.links import check_inside
from utils.shortage import has_room_for_threads

MOST_THREADS = 8


@dataclass(frozen=True)
class MaskRequest:
    """Where the masks of a scene are, and what their numbers mean."""

    folder: Path
    labels: Path  # labels.json, which need not be there
    zero_label: str  # background | ignore
    ignore_label: int  # this number is no target; -1: there is none such
    keep: bool  # keep the pixels that were read, for the first use of the views
    colors: Mapping[int, int]  # number -> 0xRRGGBB, of colours that have their numbers already


@dataclass(frozen=True, eq=False)
class MaskCollection:
    """What there is for the images of a scene. Without errors among the findings it can be used."""

    masks: dict[str, ReadMask]  # image name -> what was read
    table: IdTable
    findings: tuple[Finding, ...]

    @property
    def is_fresh(self) -> bool:
        """Whether numbers mean nothing in other views."""
        return any(mask.coding == "view" for mask in self.masks.values())

    def label_map(self, camera: Camera, picture: StoredPicture | None = None) -> NDArray[np.int32]:
        """The masks of a camera's image as it sees them, in the files' numbers: [H, W] int32, 0 =
        no instance, -1 = no target.

        Raises KeyError for an image without a mask, DataError as `read_masks`.
        """
        mask = self.masks[camera.name]
        return read_label_map(mask.path, camera, self.table, picture, read=mask)


def collect_masks(
    request: MaskRequest,
    cameras: Sequence[Camera],
    train: Collection[str] | None = None,
    pictures: Mapping[str, StoredPicture | None] | None = None,
) -> MaskCollection:
    """Find, read and check the masks of all these cameras' images.

    train: names of the training views, where views are held out; pictures: photographs by image
    name, whose orientation and lens the masks share. Nothing is raised for faults of
    the files: they are findings, for `refuse_errors` or for a report.
    """
    record, faults = _record_of(request.folder)
    ignore_label = request.ignore_label
    if ignore_label == NO_TARGET:
        ignore_label = record.get("no_target", NO_TARGET)
    rules = IdTable((), {}, request.zero_label, ignore_label)
    names = [camera.name for camera in cameras]
    try:
        files = match_mask_files(request.folder, names)
    except MaskError as error:
        return MaskCollection({}, rules, (Finding(error.kind, str(error)),))
    findings = [*name_findings(files, names), *faults]
    found = [camera for camera in cameras if camera.name in files.chosen]
    jobs = [
        _Job(camera, files.chosen[camera.name], (pictures or {}).get(camera.name))
        for camera in found
    ]
    masks, faults = _read_all(jobs, request)
    findings += faults
    if not masks:
        return MaskCollection({}, rules, tuple(findings))
    if record.get("numbering") == "view":
        masks = [replace(m, coding="view") if m.coding == "ids" else m for m in masks]
        findings.append(Finding("fresh", _fresh_sentence(request.folder)))
    findings += content_findings(masks, request.folder)
    colors = _colors_of(masks, request.colors, ignore_label)
    if colors:
        rules = replace(rules, colors=colors)
        findings.append(
            Finding(
                "colors",
                f"the colours of the masks are taken as ids: {len(colors)} colours are numbered "
                f"1 to {len(colors)} (black is 0; a run's ids.json keeps the table)",
            )
        )
    present, faults = _present(masks, rules)
    findings += faults
    originals = sorted({number for ids in present.values() for number in ids if number > 0})
    labels = read_label_names(request.labels, colors)
    known = {number: labels[number] for number in originals if number in labels}
    table = replace(rules, originals=tuple(originals), names=known)
    fresh = any(mask.coding == "view" for mask in masks)
    findings += id_findings(table, present, train, fresh)
    if request.ignore_label == NO_TARGET:  # of the record: it says what may be there
        findings = [finding for finding in findings if finding.kind != "unused label"]
    return MaskCollection({mask.name: mask for mask in masks}, table, tuple(findings))


def numbering_problem(table: IdTable, masks: MaskCollection) -> str | None:
    """Why equal ids in these masks and in the table of a run cannot mean equal objects."""
    if masks.is_fresh:
        return (
            "every view of these masks numbers its objects anew, so equal ids are not equal objects"
        )
    if not masks.table or not table or bool(masks.table.colors) == bool(table.colors):
        return None
    kinds = ("numbers", "colours") if masks.table.colors else ("colours", "numbers")
    return (
        f"the run was trained on masks with {kinds[0]} and these hold {kinds[1]}, so equal ids are "
        "not equal objects"
    )


@dataclass(frozen=True)
class _Job:
    """One file to read."""

    camera: Camera
    path: Path
    picture: StoredPicture | None


def _read_all(jobs: Sequence[_Job], request: MaskRequest) -> tuple[list[ReadMask], list[Finding]]:
    """Read every file once, several at a time, and compare its shape with its image's."""
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    if has_room_for_threads(threads):
        with ThreadPoolExecutor(threads) as pool:
            results = list(pool.map(lambda job: _read_one(job, request), jobs))
    else:
        results = [_read_one(job, request) for job in jobs]
    masks = [mask for mask, _ in results if mask is not None]
    faults = [finding for _, findings in results for finding in findings]
    return masks, joined_findings(faults, len(jobs))


def _read_one(job: _Job, request: MaskRequest) -> tuple[ReadMask | None, list[Finding]]:
    path, picture = job.path, job.picture
    try:
        check_inside(path, request.folder, request.folder.parent)
        mask = first_reading(job.camera.name, path)
        assert mask.pixels is not None
        turns = mask_turns(path, mask.pixels.size, picture)
    except DataError as error:
        return None, [Finding(getattr(error, "kind", "unreadable"), str(error), (path,))]
    size = turned_size(mask.pixels.size, turns)
    shape = shape_finding(path, size, job.camera, picture.seen_size if picture else None)
    findings = [] if shape is None else [shape]
    if turns and picture:
        findings.append(Finding("turned", str(picture.orientation), (path,)))
    return (mask if request.keep else replace(mask, pixels=None)), findings


def _record_of(folder: Path) -> tuple[dict[str, Any], list[Finding]]:
    """What the record beside a folder says; empty where there is none."""
    try:
        return read_about(folder) or {}, []
    except DataError as error:
        return {}, [Finding("unreadable", str(error), (about_path(folder),))]


def _fresh_sentence(folder: Path) -> str:
    return (
        f"{folder}: every view numbers its objects anew, as {about_path(folder).name} says, which "
        "--matching hungarian is for"
    )


def _colors_of(
    masks: Sequence[ReadMask], known: Mapping[int, int], ignore_label: int
) -> dict[int, int]:
    """Numbers of the colours; empty where no file has any colour but gray."""
    coded = [mask.values.tolist() for mask in masks if mask.coding == "colors"]
    if not coded or not (known or any(mask.has_colors for mask in masks)):
        return {}
    return numbered_colors(chain.from_iterable(coded), known, ignore_label)


def _present(
    masks: Iterable[ReadMask], rules: IdTable
) -> tuple[dict[str, dict[int, int]], list[Finding]]:
    """Image name -> number -> pixels; and the files whose numbers cannot be ids."""
    present, faults = {}, []
    for mask in masks:
        try:
            numbers = rules.numbers_of(mask.values, mask.coding)
        except MaskError as error:
            faults.append(Finding(error.kind, f"{mask.path}: {error}", (mask.path,)))
            continue
        areas = dict.fromkeys(numbers.tolist(), 0)
        for number, area in zip(numbers.tolist(), mask.areas.tolist(), strict=True):
            areas[number] += area
        present[mask.name] = areas
    return present, faults


def numbered_maps(folder: Path) -> dict[str, NDArray[np.int32]]:
    """All pictures and arrays of masks below a folder: name without suffix -> map [H, W].

    The order is that of the names, the numbers are those of the files; colours are numbered over
    all of them. Raises DataError, also where some files hold numbers and others colours.
    """
    kinds = (*EXACT_SUFFIXES, ".npy", ".npz")
    paths: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in kinds):
        paths.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    masks = [first_reading(name, path) for name, path in paths.items()]
    refuse_errors(content_findings(masks, folder))
    table = IdTable((), colors=_colors_of(masks, {}, NO_TARGET))
    maps = {}
    for mask in masks:
        pixels, numbers = numbered_pixels(mask.path, table, mask)
        maps[mask.name] = pixels.renumbered(numbers.astype(np.int32), *pixels.size)
    return maps
