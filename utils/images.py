# SPDX-License-Identifier: Apache-2.0
"""Photographs and id maps as files. Reading is strict: a damaged file is a DataError, never pixels.

Photographs are float32 tensors [C, H, W] in 0..1, id maps int32 arrays [H, W]. Orientation tags
are not applied, because COLMAP does not apply them either.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor

from utils.errors import DataError, RunError
from utils.shortage import DISK_FULL, is_out_of_memory

# No other decoder is ever tried on a file of the scene (some, as EPS, start other programs).
PHOTO_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM")
MAX_PIXELS = 178_956_970  # Pillow's own limit, beyond which it sees a decompression bomb
# Deflate packs bytes at most 1032:1 (8 pixels to the byte in 1-bit images), and JPEG less. Beyond
# that, and beyond what costs little anyway, a header promises pixels that cannot be there.
MAX_PIXELS_PER_BYTE = 1_500
HARMLESS_PIXELS = 1920 * 1080
LARGEST_PNG_ID = 65535
_Number = TypeVar("_Number", bound=np.generic)
# What Pillow raises on damaged files.
IMAGE_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def open_image(path: Path, formats: tuple[str, ...]) -> Image.Image:
    """The opened file with only its header read; DataError if it is none of the formats."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"{path}: the file is empty")
        image = Image.open(path, formats=formats)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except IMAGE_FAULTS as error:
        raise DataError(
            f"{path}: not a readable image ({type(error).__name__}); expected {', '.join(formats)}"
        ) from error
    pixels = image.width * image.height
    credible = HARMLESS_PIXELS + MAX_PIXELS_PER_BYTE * size * (8 if image.mode == "1" else 1)
    if pixels < 1 or pixels > min(MAX_PIXELS, credible):
        image.close()
        raise DataError(
            f"{path}: claims {image.width}x{image.height} pixels in {size} bytes; refused"
        )
    return image


def _load(path: Path, formats: tuple[str, ...]) -> Image.Image:
    """The decoded file."""
    with open_image(path, formats) as image:
        decode_image(path, image)
        return image.copy()


def decode_image(path: Path, image: Image.Image) -> None:
    """Read the pixels of an opened file."""
    try:
        image.load()
    except IMAGE_FAULTS as error:
        if is_out_of_memory(error):  # its header was credible: the machine has too little
            raise MemoryError(
                f"{path}: no memory for {image.width}x{image.height} pixels"
            ) from None
        raise DataError(f"{path}: the image is truncated or damaged ({error})") from error


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from the header alone. DataError if it is not an image."""
    return picture_header(path)[:2]


def picture_header(path: Path) -> tuple[int, int, int | None]:
    """(width, height, EXIF orientation 1..8 or None without one) of the stored pixels.

    Only the header is read. DataError if it is not an image, or a TIFF that is not upright: its
    pixels would be turned while they are decoded.
    """
    with open_image(path, PHOTO_FORMATS) as image:
        orientation = _orientation(image)
        if image.format == "TIFF" and orientation not in (1, None):
            raise DataError(
                f"{path}: a TIFF with orientation tag {orientation}; save it upright, without one"
            )
        return image.width, image.height, orientation


def _orientation(image: Image.Image) -> int | None:
    """The EXIF orientation that stands before the pixels; damaged tags count as none."""
    try:
        if image.format == "PNG":  # its getexif() would decode the pixels
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
        else:
            exif = image.getexif()
        value = exif.get(ExifTags.Base.Orientation)
    except IMAGE_FAULTS:
        return None
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def read_image(path: Path) -> Tensor:
    """A photograph as float32 [3, H, W], or [4, H, W] with its alpha if it has one, in 0..1.

    Raises DataError for a missing, damaged, empty or renamed file, and for float images.
    """
    image = _load(path, PHOTO_FORMATS)
    if image.mode == "F":
        raise DataError(f"{path}: float images are not supported; expected 8 or 16 bits")
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float32) / 65535.0
        if gray.min() < 0 or gray.max() > 1:
            raise DataError(f"{path}: more than 16 bits per pixel")
        return torch.from_numpy(gray).expand(3, -1, -1).contiguous()
    has_alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    del image  # and in place below: every copy of a large photograph is much memory
    scaled = pixels.transpose(2, 0, 1).astype(np.float32)
    scaled /= 255.0
    return torch.from_numpy(scaled)


def resize_image(image: Tensor, width: int, height: int) -> Tensor:
    """Resample [C, H, W] to width x height: area-weighted when shrinking, linear when growing."""
    if image.shape[1:] == (height, width):
        return image
    shrinks = width <= image.shape[2] and height <= image.shape[1]
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (width, height), interpolation=method)
    return torch.from_numpy(resized.reshape(height, width, -1)).permute(2, 0, 1).contiguous()


def write_image(path: Path, image: Tensor) -> None:
    """Write [3, H, W] in 0..1 with 8 bits a channel; the suffix (.png, .jpg) sets the format.

    Raises RunError if the file cannot be written; a half-written file is never left behind.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be [3, H, W], got {list(image.shape)}")
    pixels = (image.detach().cpu().clamp(0, 1) * 255.0 + 0.5).to(torch.uint8)
    write_pixels(path, pixels.permute(1, 2, 0).numpy())


def write_pixels(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 pixels [H, W, 3] or [H, W] as they are; errors as `write_image`."""
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8, got {pixels.dtype}")
    _save(path, Image.fromarray(np.ascontiguousarray(pixels)))


def _save(path: Path, image: Image.Image, **options: Any) -> None:
    packed = io.BytesIO()
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: unknown image suffix")
    image.save(packed, format=kind, **options)
    # The name that a sweep of stale temporaries looks for.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.0.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(packed.getbuffer())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunError(_write_fault(path, packed.getbuffer().nbytes, error)) from error


def _write_fault(path: Path, need: int, error: OSError) -> str:
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return f"{path}: cannot be written ({error.strerror})"
    if free < need or error.errno in DISK_FULL:
        need_mb, free_mb = need / 1e6, free / 1e6
        return f"disk full: need {need_mb:.1f} MB, free {free_mb:.1f} MB in {path.parent}"
    return f"{path}: cannot be written ({error.strerror})"


def write_id_map(path: Path, ids: NDArray[np.integer], orientation: int | None = None) -> None:
    """Write ids [H, W] as gray: 16 bits in a .png, 32 in a .tif or .tiff. Errors: `write_image`.

    orientation: the EXIF tag of the photograph whose stored pixels these are; a PNG keeps it.
    ValueError for ids that the file cannot hold: a PNG has room for 0..65535, a TIFF for -2^31 to
    2^31 - 1.
    """
    if ids.ndim != 2:
        raise ValueError(f"ids must be [H, W], got {list(ids.shape)}")
    wide = path.suffix.lower() in (".tif", ".tiff")
    low, high = (-(2**31), 2**31 - 1) if wide else (0, LARGEST_PNG_ID)
    if ids.size and (ids.min() < low or ids.max() > high):
        raise ValueError(f"ids {ids.min()}..{ids.max()} do not fit {32 if wide else 16} bits")
    if wide:
        _save(path, Image.fromarray(ids.astype(np.int32)), compression="tiff_deflate")
        return
    options = {}
    if orientation is not None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif.tobytes()
    _save(path, Image.fromarray(ids.astype(np.uint16)), **options)


def nearest_positions(before: int, after: int) -> NDArray[np.int64]:
    """Which of `before` samples lies nearest to each of `after`, centre to centre: [after]."""
    return ((np.arange(after) + 0.5) * (before / after)).astype(np.int64)


def resize_id_map(ids: NDArray[_Number], width: int, height: int) -> NDArray[_Number]:
    """Nearest pixel, centre to centre, so that no new id can appear. [H, W] -> [height, width]."""
    if ids.shape == (height, width):
        return ids
    rows, columns = nearest_positions(ids.shape[0], height), nearest_positions(ids.shape[1], width)
    return np.ascontiguousarray(ids[rows[:, None], columns[None, :]])
