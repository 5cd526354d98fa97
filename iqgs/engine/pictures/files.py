# SPDX-License-Identifier: Apache-2.0
"""The picture files of a rendered run. Every write is complete and checked, or an error."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.images import write_id_map
from utils.storage import atomic_write

logger = logging.getLogger(__name__)

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
    """Write ids [H, W]: uint16 as a 16-bit PNG, wider types as a 32-bit `.tiff` of that name."""
    if ids.dtype == np.uint16:
        write_picture(path, ids)
    else:
        write_id_map(path.with_suffix(".tiff"), ids)


def write_id_masks(folder: Path, ids: NDArray[np.integer]) -> None:
    """Write one binary picture (0, 255) per nonzero id: `<folder>/<id>.png`."""
    for number in np.unique(ids):
        if number > 0:
            mask = (ids == number).astype(np.uint8) * np.uint8(255)
            write_picture(folder / f"{number}.png", mask)


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> None:
    """Write RGB frames [H, W, 3] as MPEG-4. A film is an extra: where it cannot be made, a warning
    says why. Frames of another size than the first are fitted into it, on black.

    OpenCV reports no failed write, so the finished video is opened again and its frames counted.
    """
    with tempfile.TemporaryDirectory() as scratch:
        encoded = Path(scratch) / "video.mp4"
        count = _encode(encoded, frames, fps)
        reader = cv2.VideoCapture(str(encoded))
        arrived = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        if arrived != count or not count:
            logger.warning("no film %s: %d of %d frames could be encoded", path, arrived, count)
            return
        data = encoded.read_bytes()
    atomic_write(path, lambda stream: stream.write(data), len(data))


def _encode(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> int:
    """Feed the encoder; returns the number of frames."""
    writer: cv2.VideoWriter | None = None
    count, size = 0, (0, 0)
    for frame in frames:
        if writer is None:
            size = _video_size(frame)
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        writer.write(np.ascontiguousarray(_fitted(frame, size)[..., ::-1]))
        count += 1
    if writer is not None:
        writer.release()
    return count


def _video_size(frame: NDArray[np.uint8]) -> tuple[int, int]:
    """(width, height): at most VIDEO_WIDTH wide, with even sides, as encoders want them."""
    height, width = frame.shape[:2]
    scale = min(1.0, VIDEO_WIDTH / width)
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


def _fitted(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The frame inside a black picture of this size, as large as its shape allows."""
    width, height = size
    if frame.shape[:2] == (height, width):
        return frame
    scale = min(width / frame.shape[1], height / frame.shape[0])
    inner = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    if _video_size(frame) == size:  # all of it, when only the sides were made even
        inner = size
    small = cv2.resize(frame, inner, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = small
    return canvas
