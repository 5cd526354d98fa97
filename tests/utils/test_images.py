# SPDX-License-Identifier: Apache-2.0
"""Photographs and id maps: what is read is what was meant, and damaged files are refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scene.masks import read_mask_file
from utils.errors import DataError, RunError
from utils.images import (
    image_size,
    read_image,
    resize_id_map,
    resize_image,
    write_id_map,
    write_image,
    write_pixels,
)

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 5, (6, 8)).astype(np.uint8)
RGB = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises width x height gray pixels and has next to none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_lossless_photos_keep_every_value(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal((image.permute(1, 2, 0) * 255).round().numpy(), RGB)
    assert image_size(path) == (8, 6)


def test_gray_sixteen_bit_palette_and_alpha_photos(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(IDS).save(path)
    np.testing.assert_allclose(read_image(path).numpy(), np.stack([IDS / 255.0] * 3), atol=1e-7)
    deep = RNG.integers(0, 65536, (6, 8)).astype(np.uint16)
    Image.fromarray(deep).save(path)
    np.testing.assert_allclose(read_image(path).numpy(), np.stack([deep / 65535.0] * 3), atol=1e-6)
    rgba = np.dstack([RGB, IDS * 50])
    Image.fromarray(rgba).save(path)
    assert read_image(path).shape == (4, 6, 8)
    np.testing.assert_allclose(read_image(path)[3].numpy(), IDS * 50 / 255.0, atol=1e-7)
    Image.fromarray(RGB).quantize(8).save(path)
    assert read_image(path).shape == (3, 6, 8)


FAULTS = {
    "zero bytes": b"",
    "text": b"this is not a picture\n",
    "header only": b"\x89PNG\r\n\x1a\n",
    "bomb": png_header(12_000, 12_000),
    "huge bomb": png_header(2**31 - 1, 2**31 - 1),
    "too few pixels": png_header(64, 64),
    "program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) print\n",
}


@pytest.mark.fault(row=18)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_files_are_refused_by_path(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(FAULTS[fault])
    for read in (read_image, read_mask_file):
        with pytest.raises(DataError, match="a.png"):
            read(path)


@pytest.mark.fault(row=18)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_truncated_photos_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype("u1")).save(path, kind)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match="a.png"):
            read_image(path)
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "b.png")


def test_flat_pictures_are_not_mistaken_for_bombs(tmp_path: Path) -> None:
    path = tmp_path / "black.png"
    Image.new("L", (4000, 3000)).save(path, optimize=True)
    assert read_image(path).shape == (3, 3000, 4000)
    Image.new("1", (4000, 3000)).save(path, optimize=True)
    assert image_size(path) == (4000, 3000)
    Image.new("RGB", (4000, 3000)).save(tmp_path / "a.jpg", quality=1, optimize=True)
    assert image_size(tmp_path / "a.jpg") == (4000, 3000)


def test_float_photos_are_refused(tmp_path: Path) -> None:
    Image.fromarray(IDS.astype(np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match="float"):
        read_image(tmp_path / "a.tiff")


def test_shrinking_averages_and_growing_interpolates() -> None:
    image = torch.from_numpy(RNG.random((3, 12, 20)).astype(np.float32))
    blocks = image.reshape(3, 4, 3, 5, 4).mean(dim=(2, 4))
    torch.testing.assert_close(resize_image(image, 5, 4), blocks, atol=1e-6, rtol=0)
    assert resize_image(image, 20, 12) is image
    ramp = torch.arange(8.0).repeat(3, 2, 1)
    grown = resize_image(ramp, 16, 4)
    # Centre to centre: new pixel i shows the old position (i + 0.5) / 2 - 0.5.
    torch.testing.assert_close(grown[0, 0, 1:-1], (torch.arange(1.0, 15) + 0.5) / 2 - 0.5)
    assert resize_image(torch.rand(1, 6, 8), 4, 3).shape == (1, 3, 4)


def test_id_maps_are_resized_centre_to_centre_without_new_ids() -> None:
    ids = RNG.integers(0, 9, (53, 70)).astype(np.int32)
    assert set(np.unique(resize_id_map(ids, 31, 97))) <= set(np.unique(ids))
    doubled = np.repeat(np.repeat(ids, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(resize_id_map(ids, 140, 106), doubled)
    np.testing.assert_array_equal(resize_id_map(doubled, 70, 53), ids)
    thirds = np.repeat(np.arange(5, dtype=np.int32), 3)[None]
    np.testing.assert_array_equal(resize_id_map(thirds, 5, 1)[0], np.arange(5))


def test_written_photos_are_rounded_and_clamped(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    values = torch.tensor([-1.0, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 2.0])
    write_image(path, values.expand(3, 2, 6))
    pixels = np.asarray(Image.open(path))
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 0, 0, 1, 255, 255])
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]
    write_pixels(tmp_path / "b.png", RGB)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), RGB)


def test_writing_faults(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.png", torch.zeros(3, 2, 2))
    for image in (torch.zeros(1, 2, 2), torch.zeros(3, 2)):
        with pytest.raises(ValueError, match=r"\[3, H, W\]"):
            write_image(tmp_path / "a.png", image)
    for name, wrong in (("a.png", 65536), ("a.png", -1), ("a.tiff", 2**31)):
        with pytest.raises(ValueError, match="16 bits" if name == "a.png" else "32 bits"):
            write_id_map(tmp_path / name, np.full((2, 2), wrong))
    with pytest.raises(ValueError, match="suffix"):
        write_image(tmp_path / "a.nothing", torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="uint8"):
        write_pixels(tmp_path / "a.png", np.zeros((2, 2)))  # type: ignore[arg-type]


@pytest.mark.fault(row=8)
def test_a_full_disk_is_told_with_both_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0})())
    with pytest.raises(RunError, match=r"disk full: need .* MB, free 0.0 MB in"):
        write_image(tmp_path / "a.png", torch.zeros(3, 2, 2))
