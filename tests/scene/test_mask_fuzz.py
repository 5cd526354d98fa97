# SPDX-License-Identifier: Apache-2.0
"""Damaged mask files of every format: refused with a DataError, or read as masks that are sound."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scene.masks import FORMATS, MaskContent, MaskLayers, read_mask_file
from tests.fuzzing import LONGER
from utils.errors import DataError

from .test_reader_fuzz import fuzz
from .test_reader_fuzz import seeds as pictures

CASES = 250 * LONGER  # of each seed; some fifteen seeds


def layers() -> MaskLayers:
    rng = np.random.default_rng(1)
    masks = np.kron(rng.random((4, 4, 5)) < 0.5, np.ones((6, 6))).astype(bool)
    bits = np.array([np.packbits(mask) for mask in masks])
    return MaskLayers.from_bits((24, 30), bits, source=np.array([3, 9, 700, 1]))


def saved(save: Callable[[io.BytesIO], Any]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def written(tmp_path: Path, name: str) -> bytes:
    FORMATS[name].write(tmp_path / "seed.json", MaskContent.of_layers(layers(), "ids"))
    return (tmp_path / "seed.json").read_bytes()


def seeds(tmp_path: Path) -> dict[str, bytes]:
    """File name -> bytes of a good file."""
    stack = layers().unpack()
    levels = np.where(stack, np.arange(4)[:, None, None] + 5, -1).astype(np.int16)
    suffixes = {"JPEG": ".jpg", "TIFF": ".tiff", "WEBP": ".webp", "BMP": ".bmp"}
    found = {f"{mode}{suffixes.get(mode, '.png')}": data for mode, data in pictures().items()}
    arrays: dict[str, Callable[[io.BytesIO], Any]] = {
        "ids.npy": lambda s: np.save(s, levels[0]),
        "levels.npy": lambda s: np.save(s, levels),
        "plain.npz": lambda s: np.savez(s, masks=stack, ids=np.arange(1, 5)),
        "deflated.npz": lambda s: np.savez_compressed(s, stack, score=np.ones(4)),
    }
    colors = Image.fromarray(layers().unpack()[:3].transpose(1, 2, 0) * np.uint8(90))
    arrays |= {
        "colors.png": lambda s: colors.save(s, "PNG"),
        "lossless.webp": lambda s: colors.save(s, "WEBP", lossless=True),
        "wide.tif": lambda s: Image.fromarray(levels[0].astype(np.int32)).save(s, "TIFF"),
    }
    found |= {name: saved(save) for name, save in arrays.items()}
    found |= {f"{name}.json": written(tmp_path, name) for name in ("sam_list", "sa1b", "coco_rle")}
    return found


def read_whole(path: Path) -> None:
    content = read_mask_file(path)
    pixels = content.flat()
    assert pixels.values.size and int(pixels.areas.sum()) == pixels.width * pixels.height
    assert pixels.map().shape == (pixels.height, pixels.width)
    if content.layers is not None:
        assert content.layers.unpack().shape == (len(content.layers), pixels.height, pixels.width)
        assert np.isfinite(content.layers.score).all() or path.suffix == ".npz"


@pytest.mark.filterwarnings("ignore")
def test_readers_of_masks(tmp_path: Path) -> None:
    refused = {}
    for name, data in seeds(tmp_path).items():
        refused[name] = fuzz(tmp_path / name, data, CASES, read_whole, DataError)
    # Both ends are reached: damage that is found, and changes that leave a file sound.
    assert refused["JPEG.jpg"] == CASES and all(count > CASES / 10 for count in refused.values())
    pictures_and_arrays = ("L.png", "colors.png", "wide.tif", "P.png", "ids.npy", "levels.npy")
    sound = (*pictures_and_arrays, "plain.npz", "coco_rle.json")
    assert all(refused[name] < CASES for name in sound), refused


STRANGE = (None, True, -1, 0, 1e308, 2**70, "", "~", [], [[]], {}, [0] * 5, [[1, 0], [0, 1]])


def mutated(value: Any, rng: np.random.Generator) -> Any:
    """A copy of a JSON value with one part replaced, doubled or removed."""
    value = copy.deepcopy(value)
    at = value
    while True:
        keys = list(at) if isinstance(at, dict) else range(len(at))
        if not keys:
            return STRANGE[rng.integers(len(STRANGE))]
        key = list(keys)[rng.integers(len(keys))]
        if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.75:
            at = at[key]
            continue
        choice = rng.integers(4)
        if choice == 0:
            del at[key]
        elif choice == 1 and isinstance(at, list):
            at.append(copy.deepcopy(at[key]))
        else:
            at[key] = STRANGE[rng.integers(len(STRANGE))]
        return value


@pytest.mark.parametrize("name", ["sam_list", "sa1b", "coco_rle"])
def test_documents_with_strange_parts(tmp_path: Path, name: str) -> None:
    document = json.loads(written(tmp_path, name))
    rng, read = np.random.default_rng(7), 0
    for _ in range(500):
        changed = document
        for _ in range(int(rng.integers(1, 4))):
            if isinstance(changed, dict | list):
                changed = mutated(changed, rng)
        (tmp_path / "a.json").write_text(json.dumps(changed))
        try:
            read_whole(tmp_path / "a.json")
            read += 1
        except DataError as error:
            assert "a.json" in str(error)
    assert 50 < read < 450
