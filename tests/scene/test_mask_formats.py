# SPDX-License-Identifier: Apache-2.0
"""Every format of masks: what is written comes back; numpy arrays of other programs."""

from __future__ import annotations

import struct
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scene.masks import FORMATS, MaskContent, read_mask_file
from scene.masks.formats import Probe, recognise
from utils.errors import DataError

from .mask_samples import CODES, COLORS, IDS, as_map, two_layers

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


def test_headers_are_parsed_by_one_thread_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once fail in Python 3.11, now and then (python/cpython#106905)."""
    paths = [tmp_path / f"{number}.npy" for number in range(8)]
    for path in paths:
        np.save(path, IDS)
    parse, alone = np.lib.format.read_array_header_1_0, threading.Lock()
    together = []

    def watched(stream: Any) -> Any:
        together.append(not alone.acquire(blocking=False))
        time.sleep(0.005)  # the others come while this one parses
        found = parse(stream)
        if not together[-1]:
            alone.release()
        return found

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", watched)
    with ThreadPoolExecutor(4) as pool:
        maps = list(pool.map(as_map, paths))
    assert len(together) == len(paths) and not any(together)
    assert all((found == IDS).all() for found in maps)
