# SPDX-License-Identifier: Apache-2.0
"""The checks of the masks of a scene: their names, what the files hold, and their ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from scene.masks.files import MaskFiles
from scene.masks.findings import Finding, listed
from scene.masks.ids import IdTable, color_name
from scene.masks.reading import ReadMask
from scene.masks.records import NO_TARGET

SPECK = 8  # pixels a view: what compression and smooth resizing make is smaller


def name_findings(files: MaskFiles, names: Sequence[str]) -> list[Finding]:
    """What the names of the files tell."""
    if not files.chosen:
        return [Finding("none", _nothing_found(files, names), files.unmatched)]
    found = []
    without = [name for name in names if name not in files.chosen]
    if without:
        found.append(
            Finding(
                "missing",
                f"{len(without)} of {len(names)} views have no mask and train colour only: "
                f"{listed(without)}",
            )
        )
    if files.unmatched:
        relative = [path.relative_to(files.folder).as_posix() for path in files.unmatched]
        one = len(relative) == 1
        found.append(
            Finding(
                "unmatched",
                f"{len(relative)} mask {'file' if one else 'files'} in {files.folder} "
                f"{'fits' if one else 'fit'} no photograph: {listed(relative)}",
                files.unmatched,
            )
        )
    return found


def _nothing_found(files: MaskFiles, names: Sequence[str]) -> str:
    around = files.folder.parent
    if not files.folder.is_dir():
        beside = ""
        if around.is_dir():
            folders = sorted(path.name for path in around.iterdir() if path.is_dir())
            beside = f"; {around} holds the folders {listed(folders)}" if folders else ""
        return f"{files.folder}: no such folder of masks{beside}"
    wanted = PurePosixPath(names[0]).with_suffix(".png").as_posix() if names else "<image>.png"
    return (
        f"{files.folder}: no mask for any of the {len(names)} images was found: {files.holds()}, "
        f"expected {wanted} and so on (<image name without its suffix>.png)"
    )


def joined_shapes(findings: Sequence[Finding]) -> list[Finding]:
    """Findings of `shape_finding`, those about resampling as one each."""
    found = [finding for finding in findings if finding.kind == "size"]
    for kind, what in (
        ("resampled", "differ by a pixel from their images"),
        ("scaled", "have another size than their images"),
    ):
        some = [finding for finding in findings if finding.kind == kind]
        if some:
            files = tuple(path for finding in some for path in finding.files)
            sentence = (
                f"{len(some)} of the masks {what} and are resampled to the nearest pixel "
                f"(for example {some[0].sentence})"
            )
            found.append(Finding(kind, sentence, files))
    return found


def content_findings(masks: Sequence[ReadMask], folder: Path) -> list[Finding]:
    """What the files hold, beside each other."""
    found = []
    colored = [mask for mask in masks if mask.has_colors]
    numbered = [mask for mask in masks if mask.coding != "colors" and mask.values[-1] > 0]
    if colored and numbered:
        sentence = (
            f"{folder}: {colored[0].path.name} holds colours and {numbered[0].path.name} numbers; "
            "masks must be all numbers or all colours"
        )
        found.append(Finding("mixed", sentence, (colored[0].path, numbered[0].path)))
    found += _palette_findings(masks)
    lists = [mask for mask in masks if mask.is_list]
    if lists:
        sentence = (
            f"{len(lists)} of the masks are lists that may overlap: the smallest mask owns a pixel"
        )
        if any(mask.coding == "view" for mask in lists):
            sentence += (
                "; their numbers mean nothing in other views, which --matching hungarian is for"
            )
        found.append(Finding("overlapping", sentence, tuple(mask.path for mask in lists)))
    return found


def _palette_findings(masks: Sequence[ReadMask]) -> list[Finding]:
    """One index with two colours: then colours, and not indices, may be what the ids are."""
    first: dict[int, tuple[int, Path]] = {}
    for mask in masks:
        if mask.palette is None:
            continue
        codes = mask.palette.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        for index, code in zip(mask.values.tolist(), codes.tolist(), strict=True):
            before = first.setdefault(index, (code, mask.path))
            if before[0] != code:
                return [
                    Finding(
                        "palettes",
                        f"index {index} is {color_name(before[0])} in {before[1].name} and "
                        f"{color_name(code)} in {mask.path.name}: the indices are taken as ids; if "
                        "the colours are what the objects keep, save the masks as RGB",
                        (before[1], mask.path),
                    )
                ]
    return []


def id_findings(
    table: IdTable,
    present: Mapping[str, Mapping[int, int]],
    train: Collection[str] | None,
    fresh: bool,
) -> list[Finding]:
    """What the ids tell. present: image name -> id -> pixels; train: names of the training views;
    fresh: ids mean nothing in other views."""
    found = []
    if not table:
        return [Finding("empty", "all masks are empty: not one of them holds an id other than 0")]
    views: dict[int, list[str]] = defaultdict(list)
    area: dict[int, int] = defaultdict(int)
    for name, ids in present.items():
        for number, pixels in ids.items():
            views[number].append(name)
            area[number] += pixels
    empty = [name for name in present if not any(number > 0 for number in present[name])]
    if empty:
        sentence = f"{len(empty)} of the masks hold no object: {listed(empty)}"
        found.append(Finding("empty view", sentence))
    if table.ignore_label != NO_TARGET and NO_TARGET not in views:
        sentence = f"--ignore_label {table.ignore_label}: no mask holds that value"
        found.append(Finding("unused label", sentence))
    objects = {number: names for number, names in sorted(views.items()) if number > 0}
    if not fresh:
        found += _spread_findings(objects, train)
    specks = [number for number in objects if area[number] < SPECK * len(objects[number])]
    if len(specks) > max(2, len(objects) // 2):
        found.append(
            Finding(
                "specks",
                f"{len(specks)} of {len(objects)} ids cover fewer than {SPECK} pixels a view: "
                "compression or smooth resizing may have made them",
            )
        )
    return found


def _spread_findings(
    objects: Mapping[int, Sequence[str]], train: Collection[str] | None
) -> list[Finding]:
    """Ids that only held-out views show, or one view alone."""
    found = []
    seen = None if train is None else set(train)
    lost = [] if seen is None else [i for i, names in objects.items() if not seen & set(names)]
    if lost:
        text = _about(lost, [str(i) for i in lost], "in no training view")
        found.append(Finding("untrained", text))
    single = [i for i, names in objects.items() if len(names) == 1 and i not in set(lost)]
    if single:
        text = _about(single, [f"{i} ({objects[i][0]})" for i in single], "in one view only")
        found.append(Finding("single", text))
    return found


def _about(ids: Sequence[int], named: Sequence[str], where: str) -> str:
    if len(ids) == 1:
        return f"id {ids[0]} is {where}{named[0].removeprefix(str(ids[0]))}"
    return f"{len(ids)} ids are {where}: {listed(named)}"
