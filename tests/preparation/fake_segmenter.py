# SPDX-License-Identifier: Apache-2.0
"""A stand-in for any program that writes masks: `fake_segmenter.py IMAGE OUTPUT [KIND]`.

Each gray value of the image but black is a mask.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


def main(image: str, output: str, kind: str = "png") -> int:
    pixels = np.asarray(Image.open(image).convert("L"))
    values = np.unique(pixels[pixels > 0])
    if kind == "fail":
        sys.stderr.write("no weights here\n")
        return 3
    if kind == "hang":
        time.sleep(60)
    WRITERS[kind](Path(output), pixels, pixels[None] == values[:, None, None])
    return 0


def write_folder(target: Path, masks: np.ndarray) -> None:
    target.mkdir()
    for index, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8) * 255).save(target / f"{index}.png")
    (target / "metadata.csv").write_text("id,area\n")


def write_list(target: Path, masks: np.ndarray) -> None:
    items = [{"segmentation": mask.tolist(), "predicted_iou": 0.5} for mask in masks.astype(int)]
    target.with_suffix(".json").write_text(json.dumps(items))


def write_gray(target: Path, pixels: np.ndarray, *suffixes: str) -> None:
    for suffix in suffixes:
        Image.fromarray(pixels).save(
            target.with_suffix(suffix), "BMP" if suffix == ".bmp" else "PNG"
        )


WRITERS = {
    "png": lambda target, pixels, _: write_gray(target, pixels, ".png"),
    "bare": lambda target, pixels, _: write_gray(target, pixels, ""),
    "two": lambda target, pixels, _: write_gray(target, pixels, ".png", ".bmp"),
    "npz": lambda target, _, masks: np.savez(target.with_suffix(".npz"), masks=masks),
    "folder": lambda target, _, masks: write_folder(target, masks),
    "json": lambda target, _, masks: write_list(target, masks),
    "text": lambda target, *_: target.with_suffix(".txt").write_text("done"),
    "nothing": lambda *_: None,
}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
