# SPDX-License-Identifier: Apache-2.0
"""Cached views as files that are mapped into memory, one a view.

A file is a line that names the format, a line of JSON, and the arrays, each on a multiple of 64
bytes. It is used where it fits the splats, the camera and the threshold (`fingerprint`), fits the
budget, and is whole (a checksum of the arrays); any other file of that name is replaced. Files are
written whole or not at all, so runs on the same splats may share a folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from diff_surfel_rasterization import QuadWeights, check_quads
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from utils.errors import UserError
from utils.storage import atomic_write, sweep_stale, write_error

logger = logging.getLogger(__name__)

FORMAT = b"IQGS blending weights by quads, 3\n"
SUFFIX = ".weights"
ALIGNMENT = 64
MOST_HEADER = 1 << 16
TYPES = ("<i8", "<i4", "<f2", "<i4", "<i8", "<i8", "|u1")  # of the arrays, see `_arrays`


@dataclass(frozen=True)
class CachedView:
    """Pixels of one view with their weights."""

    weights: QuadWeights  # over the U splats that the kept pixels show
    touched: Tensor  # [U] int64, which splats these are
    pixels: Tensor | None  # [R] int64, y * width + x, ascending: those kept; None: all
    shown: Tensor  # [ceil(N / 8)] uint8, a bit for every splat that the whole view shows

    @property
    def pixel_count(self) -> int:
        """How many pixels are kept."""
        return self.weights.width * self.weights.height if self.pixels is None else len(self.pixels)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        kept = 0 if self.pixels is None else self.pixels.nbytes
        return self.weights.nbytes + self.touched.nbytes + self.shown.nbytes + kept


@dataclass(frozen=True)
class Choice:
    """What decides on the pixels of a view that is too large: its share in bytes, and a seed."""

    share: float
    seed: int


def geometry_digest(gaussians: GaussianModel) -> str:
    """Digest of what the blending weights of splats depend on."""
    digest = hashlib.sha256()
    for tensor in (gaussians.means, gaussians.scales, gaussians.rotations, gaussians.opacities):
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(f"{array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def view_fingerprint(splats: str, camera: Camera, min_weight: float) -> str:
    """Digest of all that the weights of a view depend on; `splats` is that of the geometry."""
    numbers = [camera.fx, camera.fy, camera.cx, camera.cy, camera.near, camera.far, min_weight]
    numbers += camera.world_to_view.double().flatten().tolist()
    text = repr((splats, camera.width, camera.height, numbers))
    return hashlib.sha256(text.encode()).hexdigest()


class WeightFiles:
    """A folder of cached views; `fingerprint(index)` says what each must have been made of."""

    def __init__(
        self, folder: Path, fingerprint: Callable[[int], str], device: torch.device
    ) -> None:
        self._folder, self._fingerprint, self._device = folder, fingerprint, device
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = write_error(folder, error, 0)
            if isinstance(why, UserError):
                why = UserError(
                    f"--cache_path {folder}: {error.strerror or error}; name a folder to write in"
                )
            raise why from None
        sweep_stale(folder)

    def path(self, index: int) -> Path:
        """The file of a view."""
        return self._folder / f"{index:05d}{SUFFIX}"

    def read(self, index: int, choice: Choice) -> CachedView | None:
        """The view of a file, mapped into memory; None where there is none that may be used."""
        path = self.path(index)
        try:
            header, data = _open(path)
            if header["fingerprint"] != self._fingerprint(index):
                logger.info("%s belongs to other splats or cameras and is made again", path)
                return None
            view = _view_of(header, data)
            fits = view.nbytes <= choice.share if header["choice"] is None else False
            if not fits and header["choice"] != [choice.share, choice.seed]:
                logger.info("%s was made for another budget or seed and is made again", path)
                return None
            if zlib.crc32(data.data) != header["checksum"]:
                raise ValueError("the checksum differs")
            check_quads(view.weights)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            logger.warning("%s is damaged (%s) and is made again", path, error)
            return None
        return view

    def write(self, index: int, view: CachedView, choice: Choice) -> None:
        """Replace the file of a view. Raises RunError where the disk is full."""
        arrays = [np.ascontiguousarray(t.cpu().numpy()) for t in _arrays(view)]
        arrays = [array.astype(kind, copy=False) for array, kind in zip(arrays, TYPES, strict=True)]
        checksum = 0
        for array in arrays:
            checksum = zlib.crc32(_padded(array.tobytes()), checksum)
        header = {
            "fingerprint": self._fingerprint(index),
            "choice": None if view.pixels is None else [choice.share, choice.seed],
            "checksum": checksum,
            "width": view.weights.width,
            "height": view.weights.height,
            "splats": view.weights.n_splats,
            "shapes": [list(array.shape) for array in arrays],
        }

        def fill(stream: BinaryIO) -> None:
            stream.write(_padded(FORMAT + json.dumps(header).encode() + b"\n", b" "))
            for array in arrays:
                stream.write(_padded(array.tobytes()))

        atomic_write(self.path(index), fill, view.nbytes)

    def on_device(self, view: CachedView) -> CachedView:
        """A mapped view where the splats are: on a GPU it is copied at every use."""
        if self._device.type == "cpu":
            return view
        start, row, weight, extra = (t.to(self._device) for t in view.weights.tensors)
        weights = replace(view.weights, quad_start=start, row=row, weight=weight, extra=extra)
        pixels = None if view.pixels is None else view.pixels.to(self._device)
        return CachedView(weights, view.touched.to(self._device), pixels, view.shown)


def _arrays(view: CachedView) -> list[Tensor]:
    pixels = torch.empty(0, dtype=torch.int64) if view.pixels is None else view.pixels
    return [*view.weights.tensors, view.touched, pixels, view.shown]


def _padded(data: bytes, filler: bytes = b"\0") -> bytes:
    """`data` up to a multiple of the alignment; the last byte stays the last."""
    missing = -len(data) % ALIGNMENT
    if filler == b"\0":
        return data + filler * missing
    return data[:-1] + filler * missing + data[-1:]


def _open(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The header of a file, and what follows it, mapped."""
    with open(path, "rb") as stream:
        if stream.readline(len(FORMAT)) != FORMAT:
            raise ValueError("not a file of cached weights")
        line = stream.readline(MOST_HEADER)
        first = len(FORMAT) + len(line)
    header = json.loads(line)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    # Private: nothing that is written through the tensors reaches the file.
    return header, np.memmap(path, dtype=np.uint8, mode="c")[first:]


def _view_of(header: dict[str, Any], data: np.ndarray) -> CachedView:
    """The tensors that `header` describes, as views of `data`."""
    tensors, at = [], 0
    for shape, kind in zip(header["shapes"], TYPES, strict=True):
        size = math.prod(shape) * np.dtype(kind).itemsize
        tensors.append(torch.from_numpy(data[at : at + size].view(kind).reshape(shape)))
        at += size + -size % ALIGNMENT
    if at != len(data):
        raise ValueError(f"{len(data)} bytes instead of {at}")
    start, row, weight, extra, touched, pixels, shown = tensors
    width, height, splats = (int(header[name]) for name in ("width", "height", "splats"))
    weights = QuadWeights(start, row, weight, extra, width, height, splats)
    return CachedView(weights, touched, None if header["choice"] is None else pixels, shown)
