# SPDX-License-Identifier: Apache-2.0
"""The picture files of a rendered run. Every write is complete and checked, or an error."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.errors import DataError, RunError
from utils.storage import atomic_write

LARGEST_ID = 65535  # of a 16-bit picture
VIDEO_WIDTH = 1920  # wider panels are reduced: many players refuse more


def write_picture(path: Path, pixels: NDArray[np.generic], kind: str = "PNG") -> None:
    """Write [H, W] or [H, W, 3] as PNG, or float32 [H, W] as TIFF. RunError where the disk is full.

    The picture is encoded in memory first, so that no library can lose a write error.
    """
    encoded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(encoded, format=kind)
    data = encoded.getvalue()
    atomic_write(path, lambda stream: stream.write(data), len(data))


def write_id_picture(path: Path, ids: NDArray[np.integer]) -> None:
    """Write ids [H, W] as a 16-bit PNG. DataError for an id that does not fit."""
    largest = int(ids.max()) if ids.size else 0
    if largest > LARGEST_ID:
        raise DataError(f"{path}: id {largest} does not fit 16 bits: renumber the masks")
    write_picture(path, ids.astype(np.uint16))


def write_id_masks(folder: Path, ids: NDArray[np.integer]) -> None:
    """Write one binary picture (0, 255) per nonzero id: `<folder>/<id>.png`."""
    for number in np.unique(ids):
        if number > 0:
            mask = (ids == number).astype(np.uint8) * np.uint8(255)
            write_picture(folder / f"{number}.png", mask)


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> None:
    """Write RGB frames [H, W, 3] of one size as MPEG-4; RunError if not all of them arrive.

    OpenCV reports no failed write, so the finished video is opened again and its frames counted.
    """
    with tempfile.TemporaryDirectory() as scratch:
        encoded = Path(scratch) / "video.mp4"
        count = _encode(encoded, frames, fps)
        reader = cv2.VideoCapture(str(encoded))
        arrived = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        if arrived != count or not count:
            raise RunError(f"{path}: {arrived} of {count} frames could be encoded in {scratch}")
        data = encoded.read_bytes()
    atomic_write(path, lambda stream: stream.write(data), len(data))


def _encode(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> int:
    """Feed the encoder; returns the number of frames."""
    writer: cv2.VideoWriter | None = None
    count = 0
    for frame in frames:
        small = _for_video(frame)
        if writer is None:
            size = (small.shape[1], small.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        writer.write(np.ascontiguousarray(small[..., ::-1]))
        count += 1
    if writer is not None:
        writer.release()
    return count


def _for_video(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most VIDEO_WIDTH wide, with even sides, as encoders want them."""
    height, width = frame.shape[:2]
    scale = min(1.0, VIDEO_WIDTH / width)
    even = (max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2))
    if even == (width, height):
        return frame
    return np.asarray(cv2.resize(frame, even, interpolation=cv2.INTER_AREA), dtype=np.uint8)
