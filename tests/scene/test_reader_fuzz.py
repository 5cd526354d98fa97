# SPDX-License-Identifier: Apache-2.0
"""Damaged files, made at random by seven operations: the readers refuse them or read them whole."""

from __future__ import annotations

import io
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scene.readers.colmap.binary import read_cameras_binary, read_images_binary, read_points_binary
from scene.readers.colmap.text import read_cameras_text, read_images_text, read_points_text
from utils.errors import DataError, FormatError
from utils.images import read_image

INTEGERS = (0, 1, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, -1.0)


def put(data: bytes, at: int, patch: bytes) -> bytes:
    return data[:at] + patch + data[at + len(patch) :]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One of: truncate, flip bits, 8-byte integer, delete, insert, header byte, special float."""
    if not data:
        return rng.bytes(8)
    at = int(rng.integers(len(data)))
    operation = int(rng.integers(7))
    if operation == 0:
        return data[:at]
    if operation == 1:
        for place in rng.integers(len(data), size=int(rng.integers(1, 9))):
            data = put(data, int(place), bytes([data[place] ^ (1 << int(rng.integers(8)))]))
        return data
    if operation == 2:
        return put(data, at, struct.pack("<Q", INTEGERS[int(rng.integers(len(INTEGERS)))]))
    if operation == 3:
        return data[:at] + data[at + int(rng.integers(1, 33)) :]
    if operation == 4:
        return data[:at] + rng.bytes(int(rng.integers(1, 33))) + data[at:]
    if operation == 5:
        return put(data, int(rng.integers(min(32, len(data)))), rng.bytes(1))
    return put(data, at, struct.pack("<d", FLOATS[int(rng.integers(len(FLOATS)))]))


def fuzz(
    path: Path, seed: bytes, cases: int, read: Callable[[Path], object], errors: type[Exception]
) -> int:
    """Feed `cases` mutants to `read`; returns how many it refused. Other exceptions surface."""
    rng = np.random.default_rng(20240522)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for _ in range(cases):
        data = seed
        for _ in range(int(rng.integers(1, 4))):
            data = mutate(data, rng)
        path.write_bytes(data)
        start = time.process_time()
        try:
            read(path)
        except errors:
            refused += 1
        assert time.process_time() - start < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200 * 1024
    return refused


READERS = {
    "cameras.bin": read_cameras_binary,
    "images.bin": read_images_binary,
    "points3D.bin": read_points_binary,
    "cameras.txt": read_cameras_text,
    "images.txt": read_images_text,
    "points3D.txt": read_points_text,
}


@pytest.mark.parametrize("name", READERS)
def test_colmap_readers(tmp_path: Path, name: str, make_scene: Callable[..., Path]) -> None:
    source = make_scene(["a.png", "sub/b.png", "c.png"], binary=name.endswith(".bin"))
    seed = (source / "sparse/0" / name).read_bytes()[:1500]
    refused = fuzz(tmp_path / name, seed, 800, READERS[name], FormatError)
    assert refused > 160


def packed(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def seeds() -> dict[str, bytes]:
    rng = np.random.default_rng(5)
    gray = Image.fromarray(rng.integers(0, 5, (24, 32)).astype("u1"))
    rgb = Image.fromarray(rng.integers(0, 256, (24, 32, 3)).astype("u1"))
    palette = gray.copy()
    palette.putpalette(list(range(256)) * 3)
    return {
        "L": packed(gray, "PNG"),
        "P": packed(palette, "PNG"),
        "1": packed(gray.convert("1"), "PNG"),
        "I;16": packed(Image.fromarray(np.arange(768, dtype="u2").reshape(24, 32)), "PNG"),
        "RGB": packed(rgb, "PNG"),
        "RGBA": packed(rgb.convert("RGBA"), "PNG"),
        "JPEG": packed(rgb, "JPEG"),
        "TIFF": packed(gray, "TIFF"),
        "WEBP": packed(rgb, "WEBP"),
        "BMP": packed(rgb, "BMP"),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(seeds()))
def test_image_readers(tmp_path: Path, name: str) -> None:
    def read_photo(path: Path) -> None:
        image = read_image(path)
        assert image.shape[0] in (3, 4)
        assert float(image.min()) >= 0 and float(image.max()) <= 1

    fuzz(tmp_path / "photo", seeds()[name], 100, read_photo, DataError)


def test_the_seeds_themselves_are_read(tmp_path: Path) -> None:
    for name, data in seeds().items():
        (tmp_path / "file").write_bytes(data)
        assert read_image(tmp_path / "file").shape[1:] == (24, 32), name
