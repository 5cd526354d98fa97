# SPDX-License-Identifier: Apache-2.0
"""True instances of points: the scans of ScanNet++ and ScanNet, and plainer files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scene.benchmarks.labelled_points import LabelledPoints, find_labelled_points
from utils.errors import DataError, FormatError, UserError
from utils.ply import write_ply

VERTICES = np.arange(24, dtype=np.float64).reshape(8, 3)
SEGMENTS = [5, 5, 6, 6, 7, 7, 8, 9]
GROUPS = [
    {"id": 1, "objectId": 1, "label": "wall", "segments": [5]},
    {"id": 2, "objectId": 2, "label": "cup", "segments": [8]},  # on the table's vertices
    {"id": 3, "objectId": 3, "label": "Table", "segments": [6, 7, 8]},
    {"id": 4, "objectId": 4, "label": "REMOVE", "segments": [9]},
]
TRUE = [0, 0, 3, 3, 3, 3, 2, 0]


def write_mesh(path: Path, vertices: np.ndarray = VERTICES, **columns: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_ply(path, {**dict(zip("xyz", vertices.T, strict=True)), **columns})


def write_scannetpp(scans: Path, groups: Any = GROUPS, segments: Any = SEGMENTS) -> None:
    write_mesh(scans / "mesh_aligned_0.05.ply")
    (scans / "segments.json").write_text(json.dumps({"segIndices": segments}))
    (scans / "segments_anno.json").write_text(json.dumps({"segGroups": groups}))


def check(found: LabelledPoints, instances: list[int], vertices: np.ndarray = VERTICES) -> None:
    np.testing.assert_array_equal(found.positions, vertices)
    np.testing.assert_array_equal(found.instances, instances)


@pytest.mark.parametrize("scene", ["data/7b64", "data/7b64/dslr", "data/7b64/scans"])
def test_scannetpp_from_the_scene_its_photographs_or_its_scan(tmp_path: Path, scene: str) -> None:
    write_scannetpp(tmp_path / "data/7b64/scans")
    (tmp_path / scene).mkdir(exist_ok=True)
    found = find_labelled_points(tmp_path / scene, "")
    check(found, TRUE)
    assert (found.classes, found.kind) == ("all but wall, floor, ceiling", "human")


def test_the_data_sets_own_list_of_classes_wins(tmp_path: Path) -> None:
    write_scannetpp(tmp_path / "data/7b64/scans")
    listed = tmp_path / "metadata/semantic_benchmark/top100_instance.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("chair\ncup\n")
    found = find_labelled_points(tmp_path / "data/7b64", "")
    check(found, [0, 0, 0, 0, 0, 0, 2, 0])
    assert found.classes == "top100_instance.txt"


def test_vertices_that_the_benchmark_leaves_out(tmp_path: Path) -> None:
    write_scannetpp(tmp_path / "scans")
    (tmp_path / "scans/mesh_aligned_0.05_mask.txt").write_text("0\n6\n")
    kept = [1, 2, 3, 4, 5, 7]
    check(find_labelled_points(tmp_path, ""), [TRUE[k] for k in kept], VERTICES[kept])
    (tmp_path / "scans/mesh_aligned_0.05_mask.txt").write_text("8\n")
    with pytest.raises(FormatError, match=r"_mask.txt: numbers vertices that the mesh"):
        find_labelled_points(tmp_path, "")


def test_a_scan_of_scannet(tmp_path: Path) -> None:
    write_mesh(tmp_path / "scene0000_00_vh_clean_2.ply")
    name = "scene0000_00_vh_clean_2.0.010000.segs.json"
    (tmp_path / name).write_text(json.dumps({"segIndices": SEGMENTS}))
    (tmp_path / "scene0000_00.aggregation.json").write_text(json.dumps({"segGroups": GROUPS}))
    check(find_labelled_points(tmp_path, ""), TRUE)


def test_the_benchmarks_ids_beside_the_mesh(tmp_path: Path) -> None:
    """class * 1000 + instance; what is below 1000 is not scored."""
    write_scannetpp(tmp_path / "scans")
    (tmp_path / "gt.txt").write_text("\n".join(map(str, [0, 7, 3001, 3001, 3002, 3002, 5001, 0])))
    found = find_labelled_points(tmp_path, "gt.txt")
    check(found, [0, 0, 3001, 3001, 3002, 3002, 5001, 0])
    (tmp_path / "gt.txt").write_text("1001\n")
    with pytest.raises(FormatError, match="gt.txt: .*one id for each point"):
        find_labelled_points(tmp_path, "gt.txt")
    (tmp_path / "gt.txt").write_text("chair\n")
    with pytest.raises(FormatError, match="gt.txt: expected one whole number a line"):
        find_labelled_points(tmp_path, "gt.txt")
    (tmp_path / "far/alone").mkdir(parents=True)
    (tmp_path / "far/alone/gt.txt").write_text("1001\n")
    with pytest.raises(DataError, match="no mesh that these ids belong to"):
        find_labelled_points(tmp_path / "far/alone", "gt.txt")


def test_plain_files(tmp_path: Path) -> None:
    ids = np.array(TRUE, np.int32)
    write_mesh(tmp_path / "points.ply", instance=ids - (ids == 0))  # -1 is no instance either
    check(find_labelled_points(tmp_path, "points.ply"), TRUE)
    np.savez(tmp_path / "points3d_labels.npz", positions=VERTICES, labels=ids)
    found = find_labelled_points(tmp_path, "")
    check(found, TRUE)
    assert (found.kind, found.classes) == ("synthetic", "all")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("nothing.npz", "no such file or folder"),
        ("picture.png", "are a .npz, a .ply or a .txt"),
        ("bare.ply", "expected the columns x, y, z and one of instance"),
        ("broken.npz", "broken.npz: not labelled points"),
        ("few.npz", "few.npz: positions .* and labels .* do not belong"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, file: str, words: str) -> None:
    (tmp_path / "picture.png").touch()
    write_mesh(tmp_path / "bare.ply")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    np.savez(tmp_path / "few.npz", positions=VERTICES, labels=[1])
    with pytest.raises(UserError, match=words):
        find_labelled_points(tmp_path, file)


def test_damaged_scans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no labelled points; expected scans/ of ScanNet\+\+"):
        find_labelled_points(tmp_path, "")
    scans = tmp_path / "scans"
    for groups, segments, words in (
        (GROUPS, SEGMENTS[1:], "segments.json: segIndices are to be 8"),
        ([{"label": "cup"}], SEGMENTS, "segments_anno.json: group 1 has no segments"),
        ([["cup"]], SEGMENTS, "group 1 has no segments or label"),
        ({}, SEGMENTS, "expected a list 'segGroups'"),
        (GROUPS, ["a"] * 8, "whole numbers"),
    ):
        write_scannetpp(scans, groups, segments)
        with pytest.raises(FormatError, match=words):
            find_labelled_points(tmp_path, "")
