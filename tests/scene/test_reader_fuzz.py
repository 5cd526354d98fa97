# SPDX-License-Identifier: Apache-2.0
"""Damaged files, made at random by seven operations: the readers refuse them or read them whole."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from arguments import ModelParams
from scene.lenses import LENS_MODELS
from scene.readers.colmap import ColmapCamera
from scene.readers.colmap.binary import (
    read_cameras_binary,
    read_images_binary,
    read_observations_binary,
    read_points_binary,
    read_tracks_binary,
)
from scene.readers.colmap.text import (
    read_cameras_text,
    read_images_text,
    read_observations_text,
    read_points_text,
    read_tracks_text,
)
from scene.readers.points import read_point_ply
from scene.readers.transforms import read_blender_scene, read_capture
from tests.fuzzing import LONGER, alarm, limited_memory
from utils.errors import DataError
from utils.images import picture_header, read_image
from utils.ply import write_ply

MEMORY = Path("/dev/shm")  # files that never reach a disk, where the system has them
INTEGERS = (0, 1, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, -1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if possible: writing the mutants takes longer than reading them."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


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
    with limited_memory():
        for _ in range(cases):
            data = seed
            for _ in range(int(rng.integers(1, 4))):
                data = mutate(data, rng)
            path.write_bytes(data)
            start = time.process_time()
            try:
                with alarm():
                    read(path)
            except errors:
                refused += 1
            assert time.process_time() - start < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200 * 1024
    return refused


def lens_bytes() -> bytes:
    """A cameras.bin with a camera of every model."""
    records = []
    for number, model in enumerate(LENS_MODELS.values()):
        focal = 1 if model.intrinsics == 3 else 2
        values = [36.0] * focal + [20.0, 15.0] + [0.01] * (len(model.parameters) - focal - 2)
        head = struct.pack("<IiQQ", number, model.number, 40, 30)
        records.append(head + struct.pack(f"<{len(values)}d", *values))
    return struct.pack("<Q", len(records)) + b"".join(records)


def lens_text() -> bytes:
    lines = ["# cameras"]
    for number, (name, model) in enumerate(LENS_MODELS.items()):
        focal = 1 if model.intrinsics == 3 else 2
        values = [36.0] * focal + [20.0, 15.0] + [0.01] * (len(model.parameters) - focal - 2)
        lines.append(f"{number} {name} 40 30 {' '.join(map(str, values))}")
    return ("\n".join(lines) + "\n").encode()


def tracked_bytes() -> tuple[bytes, bytes]:
    """images.bin and points3D.bin with observations and tracks."""
    images, points = struct.pack("<Q", 4), struct.pack("<Q", 5)
    for number in range(4):
        images += (
            struct.pack("<I7dI", number, 1, 0, 0, 0, number, 2, 3, 1) + b"sub/%d.png\0" % number
        )
        images += struct.pack("<Q", 2 + number)
        images += b"".join(struct.pack("<ddq", i, 2.5, i - 1) for i in range(2 + number))
    for number in range(5):
        points += struct.pack("<Q3d3BdQ", number, 0.1, 2, 3, 9, 8, 7, 0.5, number)
        points += b"".join(struct.pack("<II", i, i) for i in range(number))
    return images, points


IMAGES_TEXT = b"# images\n" + b"".join(
    b"%d 1 0 0 0 1 2 3 1 sub/%d.png\n1.5 2.5 -1 3.0 4.0 %d\n" % (i, i, i) for i in range(4)
)
POINTS_TEXT = b"".join(b"%d 0.5 -1 2 10 20 30 0.5 1 %d 2 0\n" % (i, i) for i in range(5))


def read_lenses(read: Callable[[Path], dict[int, ColmapCamera]]) -> Callable[[Path], None]:
    """Cameras as training takes them: a lens becomes a sound pinhole, or says that it cannot."""

    def straighten(path: Path) -> None:
        for camera in read(path).values():
            lens = camera.lens
            if lens is not None:
                pinhole = lens.pinhole()
                assert pinhole.width > 0 and pinhole.height > 0
                assert np.isfinite([pinhole.cx, pinhole.cy]).all()

    return straighten


def read_sightings(path: Path) -> None:
    """Both halves of a file with observations or tracks."""
    kind = "binary" if path.suffix == ".bin" else "text"
    if path.stem == "images":
        images = {"binary": read_images_binary, "text": read_images_text}[kind](path)
        seen = {"binary": read_observations_binary, "text": read_observations_text}[kind](path)
        assert set(seen) <= {image.id for image in images}
        assert all(len(row.pixels) == len(row.point_ids) for row in seen.values())
    else:
        points = {"binary": read_points_binary, "text": read_points_text}[kind](path)
        tracks = {"binary": read_tracks_binary, "text": read_tracks_text}[kind](path)
        assert np.isfinite(points.positions).all() and points.ids is not None
        assert set(tracks.point_ids.tolist()) <= set(points.ids.tolist())
        assert len(tracks.point_ids) == len(tracks.image_ids) == len(tracks.indices)


# Reader, its seed, and how many mutants of it the suite tries.
COLMAP: dict[str, tuple[Callable[[Path], None], bytes, int]] = {
    "cameras.bin": (read_lenses(read_cameras_binary), lens_bytes(), 600),
    "images.bin": (read_sightings, tracked_bytes()[0], 4700),
    "points3D.bin": (read_sightings, tracked_bytes()[1], 4700),
    "cameras.txt": (read_lenses(read_cameras_text), lens_text(), 600),
    "images.txt": (read_sightings, IMAGES_TEXT, 2200),
    "points3D.txt": (read_sightings, POINTS_TEXT, 2200),
}


@pytest.mark.parametrize("name", COLMAP)
def test_colmap_readers(folder: Path, name: str) -> None:
    read, seed, cases = COLMAP[name]
    (folder / name).write_bytes(seed)
    read(folder / name)
    refused = fuzz(folder / name, seed, cases * LONGER, read, DataError)
    assert 0.1 * cases * LONGER < refused < cases * LONGER


CAPTURE = {
    **{"camera_model": "OPENCV", "w": 8, "h": 6, "fl_x": 7.0, "cx": 4.0, "cy": 3.0, "k1": 0.01},
    "ply_file_path": "a.ply",
    "train_filenames": ["a.png"],
    "test_filenames": ["sub/b.png"],
    "frames": [
        {"file_path": name, "transform_matrix": np.eye(4).tolist(), "k2": 0.01}
        for name in ("a.png", "sub/b.png")
    ],
}


@pytest.mark.parametrize("name", ["transforms.json", "transforms_train.json"])
def test_transforms_readers(folder: Path, name: str) -> None:
    (folder / "sub").mkdir()
    Image.new("RGB", (8, 6)).save(folder / "a.png")
    Image.new("RGB", (8, 6)).save(folder / "sub/b.png")
    (folder / "a.ply").write_bytes(b"never opened here")
    params = ModelParams(str(folder), eval=True)

    def read(path: Path) -> None:
        files = (
            read_capture(params, []) if name == "transforms.json" else read_blender_scene(params)
        )
        for image in files.posed:
            assert image.path.resolve().is_relative_to(folder.resolve())
            assert bool(image.camera.world_to_view.isfinite().all())
            if image.lens is not None and image.path.is_file():
                image.lens.pinhole()

    seed = json.dumps(CAPTURE).encode()
    (folder / name).write_bytes(seed)
    read(folder / name)
    refused = fuzz(folder / name, seed, 1500 * LONGER, read, DataError)
    assert 150 * LONGER < refused < 1500 * LONGER


def test_point_cloud_reader(folder: Path) -> None:
    names = ("red", "green", "blue")
    colors = dict.fromkeys(names, np.arange(20, dtype=np.float32) / 20)
    xyz = dict.fromkeys("xyz", np.arange(20, dtype=np.float32))
    write_ply(folder / "seed.ply", {**xyz, **colors})

    def read(path: Path) -> None:
        cloud = read_point_ply(path, (1e6, 0.0, 0.0), [])
        assert bool(cloud.positions.isfinite().all())
        assert not len(cloud) or 0 <= float(cloud.colors.min()) <= float(cloud.colors.max()) <= 1

    seed = (folder / "seed.ply").read_bytes()
    refused = fuzz(folder / "a.ply", seed, 800 * LONGER, read, DataError)
    assert refused > 80 * LONGER


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_header_reader(folder: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, kind, exif=exif)

    def read(path: Path) -> None:
        width, height, tag = picture_header(path)
        assert width > 0 and height > 0 and tag in (None, *range(1, 9))

    fuzz(folder / "a", stream.getvalue(), 500 * LONGER, read, DataError)


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
def test_image_readers(folder: Path, name: str) -> None:
    def read_photo(path: Path) -> None:
        image = read_image(path)
        assert image.shape[0] in (3, 4)
        assert float(image.min()) >= 0 and float(image.max()) <= 1

    fuzz(folder / "photo", seeds()[name], 100 * LONGER, read_photo, DataError)


def test_the_seeds_themselves_are_read(folder: Path) -> None:
    for name, data in seeds().items():
        (folder / "file").write_bytes(data)
        assert read_image(folder / "file").shape[1:] == (24, 32), name
