# SPDX-License-Identifier: Apache-2.0
"""Pictures of masks: gray and palette images whose values are ids, colours that stand for ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scene.masks.formats.content import IdPixels, MaskContent
from utils.errors import DataError, MaskError
from utils.images import (
    IMAGE_FAULTS,
    LARGEST_PNG_ID,
    decode_image,
    open_image,
    write_id_map,
    write_pixels,
)

PICTURE_FORMATS = ("PNG", "TIFF", "BMP", "WEBP", "JPEG")  # the last to be refused with its reason
# An id map in colours has as many colours as objects; a picture has thousands, and few pixels each.
MOST_COLORS = 2_048
PIXELS_A_COLOR = 8
_ORIENTATION = 274  # the number of TIFF's tag
_SAMPLE = 1 << 20  # runs of equal pixels after which colours are counted for the first time


@dataclass(frozen=True, eq=False)
class MaskPicture:
    """A picture of masks as it was filed: numbers [H, W], or colours [H, W, 3] uint8."""

    pixels: NDArray[np.generic]
    palette: NDArray[np.uint8] | None  # [n, 3] colours of the numbers; None without a palette


def picture_mode(path: Path) -> str:
    """Pillow's mode of a picture (L, P, RGB, I;16, ...) from its header. DataError."""
    with open_image(path, PICTURE_FORMATS) as image:
        return image.mode


def read_exact(path: Path) -> MaskPicture:
    """The exact values of a picture of masks; whether they are ids is for the caller to say.

    Raises DataError for a damaged file, MaskError for what cannot hold exact ids: lossy
    compression, floats, transparent pixels, several pictures, colours of 16 bits a channel.
    """
    with open_image(path, PICTURE_FORMATS) as image:
        _refuse_inexact(path, image)
        decode_image(path, image)
        pixels, mode = np.asarray(image), image.mode
        palette = None
        if mode in ("P", "PA"):
            palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    if mode in ("LA", "PA", "RGBA"):
        if pixels[..., -1].min() < 255:
            raise MaskError(f"{path}: an id map must not have transparent pixels", "picture")
        pixels = pixels[..., :3] if mode == "RGBA" else pixels[..., 0]
    return MaskPicture(pixels, palette)


def _refuse_inexact(path: Path, image: Image.Image) -> None:
    """MaskError for an opened file whose pixels cannot be exact ids."""
    lossy = image.format in ("JPEG", "MPO") or image.info.get("compression") in ("jpeg", "webp")
    if lossy or (image.format == "WEBP" and not _is_lossless_webp(path)):
        raise MaskError(
            f"{path}: lossy {image.format} compression invents ids along the outlines; "
            "write the masks as PNG from where they were made (converting this file is too late)",
            "lossy",
        )
    try:
        frames = int(getattr(image, "n_frames", 1))
    except IMAGE_FAULTS as error:
        raise DataError(f"{path}: the image is truncated or damaged ({error})") from error
    if frames != 1:
        raise MaskError(f"{path}: holds {frames} pictures; expected one mask file an image", "ids")
    if not (image.mode in ("1", "L", "P", "LA", "PA", "RGB", "RGBA") or image.mode[0] == "I"):
        raise MaskError(
            f"{path}: pixel type {image.mode} cannot hold ids; expected whole numbers", "ids"
        )
    tag = getattr(image, "tag_v2", {}).get(_ORIENTATION, 1)
    if tag != 1:  # Pillow turns such pixels, but not those of other formats
        raise MaskError(f"{path}: a TIFF with orientation tag {tag}; save it without", "ids")
    raw_modes = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.mode[0] != "I" and ";16" in raw_modes:
        raise MaskError(
            f"{path}: 16 bits for each of several channels; expected one channel of ids, or "
            "colours of 8 bits a channel",
            "ids",
        )


def _is_lossless_webp(path: Path) -> bool:
    """Whether the first bit stream of a WebP file is of the lossless kind (chunk VP8L)."""
    data, at = path.read_bytes(), 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        at += 8 + size + size % 2
    return False


def read_picture(path: Path) -> MaskContent:
    """A picture of masks: the values of gray ones and the indices of palettes are ids, exact
    colours stand for ids and come as 0xRRGGBB.

    Errors are those of `read_exact`, and a MaskError for a picture of many colours: it shows masks
    and is none.
    """
    picture = read_exact(path)
    if picture.pixels.ndim == 3:
        return _colors(path, picture.pixels)
    pixels = IdPixels.from_map(picture.pixels)
    palette = None
    if picture.palette is not None and pixels.values[-1] < len(picture.palette):
        palette = picture.palette[pixels.values]
    return MaskContent(pixels, None, "ids", palette)


def _colors(path: Path, pixels: NDArray[np.generic]) -> MaskContent:
    channels = pixels.astype(np.uint32)
    codes = (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]
    flat = codes.ravel()
    runs = flat[np.flatnonzero(flat[1:] != flat[:-1]) + 1]
    if len(runs) > _SAMPLE:  # counting all colours of a large photograph would take seconds
        _refuse_many(path, len(np.unique(runs[:_SAMPLE])), flat.size, "at least ")
    content = MaskContent.of_map(codes, "colors")
    assert content.pixels is not None
    _refuse_many(path, len(content.pixels.values), flat.size, "")
    return content


def _refuse_many(path: Path, colors: int, pixels: int, more: str) -> None:
    if colors > min(MOST_COLORS, max(8, pixels // PIXELS_A_COLOR)):
        raise MaskError(
            f"{path}: a colour image with {more}{colors} colours; this looks like a visualisation "
            "or a photograph, and not like masks. Expected one channel whose pixel values are the "
            "ids, or one exact colour for each object",
            "picture",
        )


def write_ids(path: Path, content: MaskContent) -> None:
    """A gray picture of 16 bits, or a TIFF of 32. ValueError for ids that it cannot hold."""
    write_id_map(path, content.flat().map())


def id_suffix(smallest: int, largest: int) -> str:
    """Of a picture that holds these ids: .png (16 bits) where they fit, else .tiff (32 bits)."""
    return ".png" if smallest >= 0 and largest <= LARGEST_PNG_ID else ".tiff"


def write_colors(path: Path, content: MaskContent) -> None:
    """A colour picture of 0xRRGGBB numbers; ValueError for others."""
    codes = content.flat().map()
    if codes.size and not 0 <= codes.min() <= codes.max() <= 0xFFFFFF:
        raise ValueError(f"colours are 0..{0xFFFFFF}, got {codes.min()}..{codes.max()}")
    channels = [(codes >> shift) & 255 for shift in (16, 8, 0)]
    write_pixels(path, np.stack(channels, axis=-1).astype(np.uint8))
