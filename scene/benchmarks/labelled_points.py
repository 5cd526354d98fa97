# SPDX-License-Identifier: Apache-2.0
"""Points with true instances: the meshes of ScanNet++ and ScanNet, and plainer files.

ScanNet++, `SCENE/scans/` (a scene may also be trained from SCENE/dslr):

    mesh_aligned_0.05.ply         vertices
    segments.json                 {"segIndices": [a segment for each vertex]}
    segments_anno.json            {"segGroups": [{"label", "segments": [...]}]}
    mesh_aligned_0.05_mask.txt    vertices that are not scored, by number, from 0

ScanNet, the scan's folder: NAME_vh_clean_2.ply, NAME_vh_clean_2.0.010000.segs.json and
NAME.aggregation.json, with the same entries.

The benchmark's ids, a .txt of one number a vertex (class * 1000 + instance; below 1000: not
scored), beside such a mesh. Anything else: .npz with `positions` and `labels`, as the synthetic
scenes have it, or .ply with x, y, z and a column of ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import DataError, FormatError, UserError
from utils.json_files import read_json
from utils.ply import read_ply

SYNTHETIC = "points3d_labels.npz"
# What ScanNet++'s list of instance classes leaves out, where that list is not at hand; the last
# two are remarks of its annotators.
UNSCORED = ("wall", "floor", "ceiling", "remove", "split")
CLASS_LIST = "metadata/semantic_benchmark/top100_instance.txt"  # below the data set's root
ID_COLUMNS = ("instance", "instance_id", "object_id", "objectId", "label")
_ROOT_DEPTH = 4  # folders above the scene in which the root is looked for


@dataclass(frozen=True, eq=False)
class LabelledPoints:
    """True instances of points."""

    positions: NDArray[np.float64]  # [V, 3] in the coordinates of the scene's files
    instances: NDArray[np.int64]  # [V], 0 = no instance that is scored
    files: str  # what was read
    classes: str  # which classes count
    kind: str  # human | synthetic


@dataclass(frozen=True)
class _Scan:
    """The files of a scan."""

    mesh: Path
    segments: Path
    groups: Path
    mask: Path | None


def find_labelled_points(scene: Path, gt_path: str) -> LabelledPoints:
    """The labelled points of a scene, or of --gt_path: a file or folder, in the scene or absolute.

    Raises UserError where there are none, DataError or FormatError for damaged files.
    """
    if gt_path and not (scene / gt_path).exists():
        raise UserError(f"--gt_path {gt_path}: no such file or folder in {scene}")
    wanted = scene / gt_path
    if wanted.is_file():
        return _read_file(wanted, scene)
    places = (wanted,) if gt_path else (scene, scene / "scans", scene.parent / "scans")
    for place in places:
        scan = _scan_in(place)
        if scan is not None:
            return _read_scan(scan, scene)
        if (place / SYNTHETIC).is_file():
            return _read_npz(place / SYNTHETIC)
    raise UserError(
        f"{wanted}: no labelled points; expected scans/ of ScanNet++, a scan of ScanNet or "
        f"{SYNTHETIC}; --gt_path names a folder, a .npz, a .ply or a .txt of ids"
    )


def _scan_in(folder: Path) -> _Scan | None:
    plain = folder / "mesh_aligned_0.05.ply"
    if plain.is_file():
        mask = folder / "mesh_aligned_0.05_mask.txt"
        pair = folder / "segments.json", folder / "segments_anno.json"
        return _Scan(plain, *pair, mask if mask.is_file() else None)
    for mesh in sorted(folder.glob("*_vh_clean_2.ply")):
        name = mesh.name.removesuffix("_vh_clean_2.ply")
        segments = folder / f"{name}_vh_clean_2.0.010000.segs.json"
        return _Scan(mesh, segments, folder / f"{name}.aggregation.json", None)
    return None


def _read_file(path: Path, scene: Path) -> LabelledPoints:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _read_npz(path)
    if suffix == ".ply":
        return _read_ply(path)
    if suffix == ".txt":
        return _read_ids(path, scene)
    raise UserError(f"--gt_path {path}: labelled points are a .npz, a .ply or a .txt of ids")


def _read_npz(path: Path) -> LabelledPoints:
    try:
        with np.load(path, allow_pickle=False) as data:
            positions, labels = data["positions"], data["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path}: not labelled points ({error})") from error
    kind = "synthetic" if path.name == SYNTHETIC else "human"
    return _checked(path, positions, labels, kind)


def _read_ply(path: Path) -> LabelledPoints:
    columns = read_ply(path)
    name = next((name for name in ID_COLUMNS if name in columns), None)
    if name is None or not {"x", "y", "z"} <= columns.keys():
        raise FormatError(
            f"{path}: expected the columns x, y, z and one of {', '.join(ID_COLUMNS)}; it has "
            f"{', '.join(columns)}"
        )
    return _checked(path, _xyz(columns), columns[name], "human")


def _read_ids(path: Path, scene: Path) -> LabelledPoints:
    scans = (_scan_in(p) for p in (path.parent, scene, scene / "scans", scene.parent / "scans"))
    scan = next((scan for scan in scans if scan is not None), None)
    if scan is None:
        raise DataError(f"{path}: no mesh that these ids belong to; expected it beside them")
    ids = _numbers(path)
    points = _checked(path, _xyz(read_ply(scan.mesh)), np.where(ids < 1000, 0, ids), "human")
    return _unmasked(points, scan.mask)


def _read_scan(scan: _Scan, scene: Path) -> LabelledPoints:
    positions = _xyz(read_ply(scan.mesh))
    segments = np.array(_list(read_json(scan.segments), "segIndices", scan.segments))
    if segments.dtype.kind not in "iu" or segments.shape != (len(positions),):
        raise FormatError(
            f"{scan.segments}: segIndices are to be {len(positions)} whole numbers, one for each "
            f"vertex of {scan.mesh.name}"
        )
    groups = _list(read_json(scan.groups), "segGroups", scan.groups)
    scored, classes = _scored_classes(scene)
    instances = np.zeros(len(positions), np.int64)
    smallest = np.full(len(positions), len(positions) + 1)
    for number, group in enumerate(groups, start=1):
        try:
            mine = np.isin(segments, np.array(group["segments"], np.int64))
            label = str(group["label"]).casefold()
        except (TypeError, KeyError, ValueError, OverflowError):
            raise FormatError(f"{scan.groups}: group {number} has no segments or label") from None
        size = int(mine.sum())
        inner = mine & (size < smallest)  # of several objects at a vertex the smallest has it
        instances[inner] = number if _is_scored(label, scored) else 0
        smallest[inner] = size
    found = _checked(scan.mesh, positions, instances, "human")
    return _unmasked(
        LabelledPoints(found.positions, found.instances, found.files, classes, found.kind),
        scan.mask,
    )


def _scored_classes(scene: Path) -> tuple[frozenset[str] | None, str]:
    """The benchmark's instance classes where the data set's own list is found; None: all but
    UNSCORED."""
    for folder in (scene, *scene.parents)[:_ROOT_DEPTH]:
        path = folder / CLASS_LIST
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            return frozenset(line.strip().casefold() for line in lines if line.strip()), path.name
    return None, f"all but {', '.join(UNSCORED[:3])}"


def _is_scored(label: str, scored: frozenset[str] | None) -> bool:
    return label not in UNSCORED if scored is None else label in scored


def _unmasked(points: LabelledPoints, mask: Path | None) -> LabelledPoints:
    """The points without those that the benchmark does not score."""
    if mask is None:
        return points
    left_out = _numbers(mask)
    if len(left_out) and not 0 <= left_out.min() <= left_out.max() < len(points.positions):
        raise FormatError(f"{mask}: numbers vertices that the mesh does not have")
    kept = np.ones(len(points.positions), bool)
    kept[left_out] = False
    return LabelledPoints(
        points.positions[kept], points.instances[kept], points.files, points.classes, points.kind
    )


def _checked(path: Path, positions: Any, labels: Any, kind: str) -> LabelledPoints:
    positions, labels = np.asarray(positions, np.float64), np.asarray(labels)
    if positions.ndim != 2 or positions.shape[1] != 3 or labels.shape != positions.shape[:1]:
        raise FormatError(
            f"{path}: positions {positions.shape} and labels {labels.shape} do not belong "
            "together; expected one id for each point"
        )
    if not len(labels):
        raise FormatError(f"{path}: holds no points")
    if not np.isfinite(positions).all() or not (labels == np.floor(labels)).all():
        raise FormatError(f"{path}: a position is not finite, or an id not a whole number")
    instances = np.maximum(labels.astype(np.int64), 0)
    return LabelledPoints(positions, instances, path.name, "all", kind)


def _xyz(columns: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    return np.stack([columns[key] for key in "xyz"], axis=1).astype(np.float64)


def _list(record: dict[str, Any], key: str, path: Path) -> Sequence[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise FormatError(f"{path}: expected a list {key!r}")
    return value


def _numbers(path: Path) -> NDArray[np.int64]:
    """Whole numbers of a text file, one a line."""
    try:
        values = [int(word) for word in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: expected one whole number a line ({error})") from error
    return np.array(values, np.int64)
