# SPDX-License-Identifier: Apache-2.0
"""Masks in JSON files of other programs, and folders of binary masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scene.masks import read_mask_file
from scene.masks.formats import Probe, recognise
from scene.masks.formats.rle import encode_rle
from utils.errors import DataError, MaskError

from .mask_samples import IDS, as_map, two_layers

RLE = encode_rle(two_layers().mask(0))
RUNS = {"size": [6, 8], "counts": [7, 4, 2, 4, 2, 4, 2, 4, 2, 4, 13]}  # the same, by hand
ROWS = two_layers().mask(0).tolist()
BOX = [[1, 1, 6, 1, 6, 5, 1, 5]]  # a polygon: x, y, x, y, ...
ONE = {"images": [{"height": 6, "width": 8}]}
DOCUMENTS: dict[str, tuple[str, Any]] = {
    "sam": ("sam_list", [{"segmentation": RLE, "predicted_iou": 0.9, "area": 20}]),
    "sam, uncompressed": ("sam_list", [{"segmentation": RUNS}]),
    "sam, rows": ("sam_list", [{"segmentation": ROWS, "stability_score": 0.9}]),
    "sa1b": (
        "sa1b",
        {"image": {"height": 6, "width": 8}, "annotations": [{"id": 5, "segmentation": RLE}]},
    ),
    "coco polygons": ("coco_rle", {**ONE, "annotations": [{"segmentation": BOX, "image_id": 3}]}),
    "coco results": ("coco_rle", [{"image_id": 3, "segmentation": RLE, "score": 0.9}]),
    "bare code": ("coco_rle", RUNS),
    "bare codes": ("coco_rle", [RLE]),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_of_other_programs(tmp_path: Path, name: str) -> None:
    kind, document = DOCUMENTS[name]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    assert recognise(Probe(path)) == kind
    content = read_mask_file(path)
    assert content.layers is not None and content.coding == "view"
    np.testing.assert_array_equal(content.layers.unpack(), two_layers().unpack()[:1])
    if "0.9" in path.read_text():
        assert content.layers.score.tolist() == pytest.approx([0.9])


def test_tracks_are_ids_and_crowds_are_no_target(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    first, second = two_layers().mask(0), two_layers().mask(1)
    tracked = [
        {"image_id": 1, "segmentation": encode_rle(first), "attributes": {"track_id": 40}},
        {"image_id": 1, "segmentation": encode_rle(~first), "iscrowd": 1},
    ]
    path.write_text(json.dumps({"annotations": tracked}))
    np.testing.assert_array_equal(as_map(path), np.where(first, 40, -1))
    tracked.append({"image_id": 1, "segmentation": encode_rle(second)})  # one without a track
    path.write_text(json.dumps({"annotations": tracked}))
    content = read_mask_file(path)
    assert content.coding == "view" and np.unique(content.flat().map()).tolist() == [-1, 1, 2]


def test_masks_of_several_images_in_one_file_are_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    several = [{"image_id": k, "segmentation": RLE} for k in (1, 2, 2)]
    for document in (
        several,
        {"annotations": several},
        {"images": [{}, {}, {}], "annotations": []},
    ):
        path.write_text(json.dumps(document))
        with pytest.raises(MaskError, match="of [23] images") as caught:
            read_mask_file(path)
        assert caught.value.kind == "data set"


BAD_DOCUMENTS = [
    "nonsense",
    "{}",
    "[1, 2]",
    "3",
    "null",
    "[" * 100_000,
    json.dumps([]),
    json.dumps([{"segmentation": None}]),
    json.dumps([{"segmentation": {"size": [6], "counts": ""}}]),
    json.dumps([{"segmentation": {"size": [6, 8], "counts": "~"}}]),
    json.dumps([{"segmentation": {"size": [6, 8]}}]),
    json.dumps([{"segmentation": {"size": [6, 8.0], "counts": RUNS["counts"]}}]),
    json.dumps([{"segmentation": {"size": [0, 0], "counts": []}}]),
    json.dumps([{"segmentation": {"size": [10**9, 10**9], "counts": [10**18]}}]),
    json.dumps([{"segmentation": RLE}, {"segmentation": {"size": [1, 1], "counts": [1]}}]),
    json.dumps([{"segmentation": [[0, 1], [1]]}]),
    json.dumps([{"segmentation": [[0, 1], [1, 7]]}]),
    json.dumps({**ONE, "annotations": [{"segmentation": [[1, 2, 3, 4]]}]}),
    json.dumps({**ONE, "annotations": [{"segmentation": [[1, 2, 3, 4, 5, 1e999]]}]}),
    json.dumps({**ONE, "annotations": [{"segmentation": [["a"] * 6]}]}),
    json.dumps({**ONE, "annotations": [7]}),
    json.dumps({"annotations": [{"segmentation": BOX}]}),  # of no size
]


@pytest.mark.parametrize("text", BAD_DOCUMENTS)
def test_documents_that_are_no_masks(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="a.json"):
        read_mask_file(tmp_path / "a.json")


def test_folders_of_binary_masks(tmp_path: Path) -> None:
    masks = two_layers().unpack()
    for number, mask in zip((300, 7), masks, strict=True):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(mask.astype("u1") * (255 if number == 7 else 1)).save(
            tmp_path / f"a/{number}.png"
        )
    (tmp_path / "a/.DS_Store").touch()
    content = read_mask_file(tmp_path / "a")
    assert content.layers is not None and content.layers.source.tolist() == [7, 300]
    np.testing.assert_array_equal(content.layers.unpack(), masks[::-1])
    Image.fromarray(IDS).save(tmp_path / "a/8.png")
    with pytest.raises(MaskError, match=r"8\.png.*binary"):
        read_mask_file(tmp_path / "a")
    Image.fromarray(np.zeros((5, 5), "u1")).save(tmp_path / "a/8.png")
    with pytest.raises(DataError, match=r"8\.png.*5x5"):
        read_mask_file(tmp_path / "a")
    (tmp_path / "a/notes.txt").touch()
    with pytest.raises(MaskError, match="known format"):
        read_mask_file(tmp_path / "a")
