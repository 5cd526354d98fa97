# SPDX-License-Identifier: Apache-2.0
"""Every format of masks: what is written comes back, what other programs write is understood."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scene.masks import FORMATS, MaskContent, MaskLayers, read_mask_file
from scene.masks.formats import Probe, recognise
from scene.masks.formats.rle import encode_rle
from utils.errors import DataError, MaskError

RNG = np.random.default_rng(0)
IDS = np.kron(RNG.integers(0, 5, (3, 4)), np.ones((2, 2))).astype(np.uint8)  # [6, 8]
COLORS = np.array([[0, 0, 0], [141, 12, 200], [3, 220, 91], [250, 128, 7], [64, 64, 64]], np.uint8)
CODES = COLORS.astype(int) @ [1 << 16, 1 << 8, 1]


def as_map(path: Path) -> np.ndarray:
    return read_mask_file(path).flat().map()


def two_layers(**columns: Any) -> MaskLayers:
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 1:5, 1:6], masks[1, 2:6, 4:7] = True, True
    return MaskLayers.from_bits((6, 8), np.array([np.packbits(m) for m in masks]), **columns)


PATHS = {
    "id_png": "a.png",
    "rgb_ids": "a.png",
    "id_npy": "a.npz",
    "binary_folder": "a",
    "sam_list": "a.json",
    "sa1b": "a.json",
    "coco_rle": "a.json",
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_recognises_and_reads_what_it_writes(tmp_path: Path, name: str) -> None:
    path, kind = tmp_path / PATHS[name], FORMATS[name]
    if kind.layered:
        layers = two_layers(source=np.array([4, 9]), score=np.array([0.5, 0.25]))
        kind.write(path, MaskContent.of_layers(layers, "ids"))
        found = read_mask_file(path)
        assert found.layers is not None and found.coding == "ids"
        np.testing.assert_array_equal(found.layers.unpack(), layers.unpack())
        assert found.layers.source.tolist() == [4, 9]
        if name != "binary_folder":
            assert found.layers.score.tolist() == [0.5, 0.25]
        assert sorted(np.unique(found.flat().map()).tolist()) == [0, 4, 9]
    else:
        values = CODES[IDS] if name == "rgb_ids" else IDS.astype(int) * 1000
        kind.write(path, MaskContent.of_map(values))
        np.testing.assert_array_equal(as_map(path), values)
    assert recognise(Probe(path)) == name


def test_layers_without_common_numbers_are_counted_in_their_view(tmp_path: Path) -> None:
    layers = two_layers(source=np.array([700, 900]), level=np.array([0, 1]), scale=np.ones(2))
    for name in ("id_npy", "sam_list", "sa1b", "coco_rle"):
        path = tmp_path / PATHS[name]
        FORMATS[name].write(path, MaskContent.of_layers(layers, "view"))
        content = read_mask_file(path)
        assert content.coding == "view" and content.layers is not None
        assert np.unique(content.flat().map()).tolist() == [0, 1, 2]
        if name != "id_npy":
            assert content.layers.source.tolist() == [700, 900]  # kept for who looks for them
        else:
            assert content.layers.level.tolist() == [0, 1]


def test_pixels_without_a_target_survive_where_a_format_can_say_so(tmp_path: Path) -> None:
    ids = IDS.astype(np.int64) - 1
    FORMATS["id_npy"].write(tmp_path / "a.npy", MaskContent.of_map(ids))
    FORMATS["id_png"].write(tmp_path / "a.tiff", MaskContent.of_map(ids))
    np.testing.assert_array_equal(as_map(tmp_path / "a.npy"), ids)
    np.testing.assert_array_equal(as_map(tmp_path / "a.tiff"), ids)
    with pytest.raises(ValueError, match="16 bits"):
        FORMATS["id_png"].write(tmp_path / "a.png", MaskContent.of_map(ids))
    for name, path in (("id_npy", "b.npz"), ("coco_rle", "b.json")):
        FORMATS[name].write(tmp_path / path, MaskContent.of_map(ids))
        np.testing.assert_array_equal(as_map(tmp_path / path), ids)


# --- pictures


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "tiff", "webp"])
def test_gray_pictures_keep_every_id(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(IDS).save(path, **({"lossless": True} if suffix == "webp" else {}))
    content = read_mask_file(path)
    values = IDS if suffix != "webp" else IDS.astype(int) * 0x010101  # WebP knows colours only
    np.testing.assert_array_equal(content.flat().map(), values)
    assert content.coding == ("ids" if suffix != "webp" else "colors")


@pytest.mark.parametrize(
    ("dtype", "suffix", "top"),
    [("u2", "png", 65535), ("u2", "tif", 65535), ("i4", "tif", 2**31 - 1), (">u2", "tif", 65535)],
)
def test_wide_pictures_keep_every_id(tmp_path: Path, dtype: str, suffix: str, top: int) -> None:
    ids = np.linspace(0, top, 48).reshape(6, 8).astype(dtype)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(ids.astype(ids.dtype.newbyteorder("="))).save(path)
    np.testing.assert_array_equal(as_map(path), ids.astype(np.int64))


def test_palettes_two_values_and_equal_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    palette = Image.fromarray(IDS)
    palette.putpalette(RNG.integers(0, 256, 768).astype("u1").tobytes())
    palette.save(path)
    content = read_mask_file(path)
    np.testing.assert_array_equal(content.flat().map(), IDS)
    assert content.palette is not None and len(content.palette) == len(np.unique(IDS))
    Image.fromarray(np.dstack([IDS, np.full_like(IDS, 255)])).save(path)  # gray with alpha
    np.testing.assert_array_equal(as_map(path), IDS)
    Image.fromarray(IDS > 2).save(path)
    np.testing.assert_array_equal(as_map(path), IDS > 2)


@pytest.mark.parametrize("alpha", [False, True])
def test_exact_colours_stand_for_ids(tmp_path: Path, alpha: bool) -> None:
    pixels = COLORS[IDS]
    if alpha:
        pixels = np.dstack([pixels, np.full_like(IDS, 255)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = read_mask_file(tmp_path / "a.png")
    assert content.coding == "colors"
    np.testing.assert_array_equal(content.flat().map(), CODES[IDS])


def test_pictures_for_people_are_refused_with_the_number_of_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture = RNG.integers(0, 256, (60, 80, 3)).astype("u1")
    colors = len(np.unique(picture.reshape(-1, 3), axis=0))
    Image.fromarray(picture).save(path)
    with pytest.raises(MaskError, match=f"{colors} colours.*visualisation") as caught:
        read_mask_file(path)
    assert caught.value.kind == "picture"
    # Flat colours laid over a photograph: as many colours as the photograph has.
    Image.fromarray(picture // 2 + COLORS[np.kron(IDS, np.ones((10, 10), int))] // 2).save(path)
    with pytest.raises(MaskError, match="visualisation"):
        read_mask_file(path)
    # Many objects in flat colours are fine.
    blocks = np.kron(np.arange(1200).reshape(30, 40), np.ones((8, 8), int))
    FORMATS["rgb_ids"].write(path, MaskContent.of_map(blocks * 13))
    np.testing.assert_array_equal(as_map(path), blocks * 13)


@pytest.mark.parametrize("kind", ["jpeg", "renamed jpeg", "webp", "webp with alpha", "tiff"])
def test_lossy_pictures_are_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    path = tmp_path / {"jpeg": "a.jpg", "renamed jpeg": "a.png", "tiff": "a.tif"}.get(
        kind, "a.webp"
    )
    if "jpeg" in kind:
        Image.fromarray(IDS).save(path, "JPEG", quality=95)
    elif kind == "tiff":
        Image.fromarray(IDS).save(path, compression="jpeg")
    else:
        pixels = COLORS[IDS] if kind == "webp" else np.dstack([COLORS[IDS], IDS * 0 + 255])
        Image.fromarray(pixels).save(path, quality=90)
    with pytest.raises(MaskError, match="invents ids.*PNG") as caught:
        read_mask_file(path)
    assert caught.value.kind == "lossy" and str(path) in str(caught.value)


def test_other_pictures_that_are_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.dstack([COLORS[IDS], IDS])).save(path)
    with pytest.raises(MaskError, match="transparent"):
        read_mask_file(path)
    Image.fromarray(IDS.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(MaskError, match="whole numbers"):
        read_mask_file(tmp_path / "a.tif")
    frames = [Image.fromarray(IDS), Image.fromarray(IDS + 1)]
    frames[0].save(tmp_path / "b.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(MaskError, match="2 pictures"):
        read_mask_file(tmp_path / "b.tif")


def test_colours_of_sixteen_bits_would_lose_half_of_them(tmp_path: Path) -> None:
    """Pillow reads them with eight bits, in which ids that differ in the low byte become one."""
    cv2 = pytest.importorskip("cv2")
    wide = np.dstack([IDS.astype(np.uint16)] * 3)
    assert cv2.imwrite(str(tmp_path / "a.png"), wide)
    with pytest.raises(MaskError, match="16 bits for each"):
        read_mask_file(tmp_path / "a.png")


# --- numpy


@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", ">i4", "i8", "u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_whole_numbers(tmp_path: Path, dtype: str, order: Any) -> None:
    ids = IDS.astype(dtype)
    np.save(tmp_path / "a.npy", np.asarray(ids, order=order))
    np.savez_compressed(tmp_path / "a.npz", anything=np.asarray(ids, order=order))
    np.save(tmp_path / "b.npy", np.asarray(ids, order=order)[None])
    for name in ("a.npy", "a.npz", "b.npy"):
        np.testing.assert_array_equal(as_map(tmp_path / name), ids.astype(np.int64))


@pytest.mark.parametrize("order", ["C", "F"])
def test_stacks_of_masks_and_levels_of_a_hierarchy(tmp_path: Path, order: Any) -> None:
    masks = two_layers().unpack()
    np.savez(tmp_path / "a.npz", np.asarray(masks, order=order))
    content = read_mask_file(tmp_path / "a.npz")
    assert content.layers is not None and content.coding == "view"
    np.testing.assert_array_equal(content.layers.unpack(), masks)
    np.savez(tmp_path / "a.npz", masks=masks, ids=np.array([30, 20]))
    content = read_mask_file(tmp_path / "a.npz")
    assert content.coding == "ids" and np.unique(content.flat().map()).tolist() == [0, 20, 30]
    levels = np.where(masks, np.array([5, 8])[:, None, None], -1)
    levels[1, 0, 0] = 3
    np.save(tmp_path / "a.npy", np.asarray(levels, order=order))
    layers = read_mask_file(tmp_path / "a.npy").layers
    assert layers is not None
    assert list(zip(layers.level, layers.source, strict=True)) == [(0, 5), (1, 3), (1, 8)]
    np.testing.assert_array_equal(layers.mask(0), masks[0])
    np.testing.assert_array_equal(layers.mask(2), masks[1])


def npy_header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


BAD_ARRAYS = {
    "float": (lambda p: np.save(p, IDS / 2), "whole numbers"),
    "objects": (lambda p: np.save(p, np.array([None, 3]), allow_pickle=True), "whole numbers"),
    "records": (lambda p: np.save(p, np.zeros((3, 3), "i4,i4")), "whole numbers"),
    "colour picture": (lambda p: np.save(p, COLORS[IDS]), "colour picture"),
    "line": (lambda p: np.save(p, IDS.ravel()), r"expected ids \[H, W\]"),
    "four axes": (lambda p: np.save(p, IDS[None, None, :2]), r"expected ids \[H, W\]"),
    "nothing": (lambda p: np.save(p, IDS[:0]), "empty or damaged"),
    "truncated": (lambda p: p.write_bytes(npy_header("(6, 8)") + bytes(47)), "ends early"),
    "bomb": (lambda p: p.write_bytes(npy_header("(99999999, 99999999)") + bytes(9)), "too small"),
    "negative": (lambda p: p.write_bytes(npy_header("(-6, -8)") + bytes(48)), "empty or damaged"),
    "text": (lambda p: p.write_bytes(b"0 0 1 1\n"), "numpy.save"),
    "no bytes": (lambda p: p.write_bytes(b""), "numpy.save"),
}


@pytest.mark.parametrize("fault", BAD_ARRAYS)
def test_arrays_that_are_no_masks(tmp_path: Path, fault: str) -> None:
    make, message = BAD_ARRAYS[fault]
    make(tmp_path / "a.npy")
    with pytest.raises(DataError, match=rf"a\.npy.*{message}"):
        read_mask_file(tmp_path / "a.npy")


def test_archives_that_are_no_masks(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    faults: list[tuple[dict[str, Any], str]] = [
        ({"a": IDS, "b": IDS}, "found a, b"),
        ({"ids": np.arange(3)}, "found none"),
        ({"masks": two_layers().unpack(), "ids": np.array([1, 2, 3])}, "one number for each"),
        ({"masks": two_layers().unpack(), "ids": np.array([0, 2])}, "must be 1"),
        ({"masks": two_layers().unpack(), "score": np.array(["a", "b"])}, "whole numbers|score"),
    ]
    for arrays, message in faults:
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=rf"a\.npz.*({message})"):
            read_mask_file(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("masks.npy", npy_header("(40000, 40000)") + bytes(10_000))
    with pytest.raises(DataError, match="too small"):
        read_mask_file(path)


# --- JSON and folders

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
