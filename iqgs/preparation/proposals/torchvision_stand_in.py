# SPDX-License-Identifier: Apache-2.0
"""The four functions of torchvision that segment-anything calls, for where torchvision is not.

torchvision from PyPI is compiled for a torch with CUDA: beside a CPU torch its import fails
("operator torchvision::nms does not exist"). segment-anything 1.0 imports it at the top, for these
functions only.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iqgs.preparation.proposals.boxes import box_area, suppress_groups

logger = logging.getLogger(__name__)
NAME = "torchvision"


def to_pil_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Pixels [H, W, 3] as an image."""
    return Image.fromarray(np.ascontiguousarray(pixels))


def resize(image: Image.Image, size: Sequence[int]) -> Image.Image:
    """The image at (height, width), as torchvision resizes an image of Pillow: bilinear."""
    height, width = size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Positions of the boxes [N, 4] that stay, best first; only equal `idxs` [N] compete."""
    return suppress_groups(boxes, scores, idxs, iou_threshold)


def works() -> bool:
    """Whether the real torchvision can be imported; a broken one leaves nothing behind."""
    try:
        importlib.import_module(NAME)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        logger.debug("torchvision cannot be used: %s", error)
        for name in _loaded():
            del sys.modules[name]
        return False
    return True


def _loaded() -> list[str]:
    return [name for name in sys.modules if name == NAME or name.startswith(f"{NAME}.")]


@contextmanager
def torchvision_for_imports() -> Iterator[None]:
    """The real torchvision if it works; else, while this lasts, the stand-in under its name."""
    if works():
        yield
        return
    logger.info("torchvision does not work beside this torch: our own box functions are used")
    for name in ("", ".ops", ".ops.boxes", ".transforms", ".transforms.functional"):
        sys.modules[NAME + name] = ModuleType(NAME + name)
    boxes, functional = (
        sys.modules[f"{NAME}.ops.boxes"],
        sys.modules[f"{NAME}.transforms.functional"],
    )
    boxes.__dict__.update(batched_nms=batched_nms, box_area=box_area)
    functional.__dict__.update(resize=resize, to_pil_image=to_pil_image)
    try:
        yield
    finally:  # others ask for torchvision to find out what they can do
        for name in _loaded():
            del sys.modules[name]


@contextmanager
def torchvision_hidden() -> Iterator[None]:
    """Hide a torchvision that does not work from programs that only look whether it is there."""
    if works():
        yield
        return
    sys.modules[NAME] = None  # type: ignore[assignment]  # the way to make an import fail
    try:
        yield
    finally:
        del sys.modules[NAME]
