# SPDX-License-Identifier: Apache-2.0
"""Pictures of masks: every id is kept, and what cannot hold exact ids is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scene.masks import FORMATS, MaskContent, read_mask_file
from utils.errors import MaskError

from .mask_samples import CODES, COLORS, IDS, RNG, as_map


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


@pytest.mark.fault(row=22)
@pytest.mark.fault(row=25)
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


@pytest.mark.fault(row=22)
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


@pytest.mark.fault(row=22)
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


def test_tiffs_that_would_be_turned_while_they_are_read(tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "a.tif", tiffinfo={274: 3})
    with pytest.raises(MaskError, match="orientation tag 3"):
        read_mask_file(tmp_path / "a.tif")
    Image.fromarray(IDS).save(tmp_path / "a.tif", tiffinfo={274: 1})
    np.testing.assert_array_equal(as_map(tmp_path / "a.tif"), IDS)


def test_colours_of_sixteen_bits_would_lose_half_of_them(tmp_path: Path) -> None:
    """Pillow reads them with eight bits, in which ids that differ in the low byte become one."""
    cv2 = pytest.importorskip("cv2")
    wide = np.dstack([IDS.astype(np.uint16)] * 3)
    assert cv2.imwrite(str(tmp_path / "a.png"), wide)
    with pytest.raises(MaskError, match="16 bits for each"):
        read_mask_file(tmp_path / "a.png")
