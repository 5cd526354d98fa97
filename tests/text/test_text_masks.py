# SPDX-License-Identifier: Apache-2.0
"""Masks of texts from folders and from programs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iqgs.preparation.text.masks import CommandMasks, FolderMasks, folders_of_views
from scene.cameras import Camera
from scene.pictures import StoredPicture
from scene.view import View
from utils.errors import DataError, RunError, UserError

WIDTH, HEIGHT = 12, 8


def view(folder: Path, name: str, picture: StoredPicture | None = None) -> View:
    path = folder / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2, 0] = 255
    Image.fromarray(pixels).save(path)
    pose = torch.eye(4, dtype=torch.float64)
    camera = Camera(pose, 10.0, 10.0, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT, name, 0)
    return View(camera, path, None, None, picture=picture)


def save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def test_a_folder_is_found_by_name_and_else_by_place(tmp_path: Path) -> None:
    views = [view(tmp_path, name) for name in ("b.png", "a.png", "c.png")]
    for name in ("a", "c"):
        (tmp_path / "named" / name).mkdir(parents=True)
    assert {k: p.name for k, p in folders_of_views(tmp_path / "named", views).items()} == {
        "a.png": "a",
        "c.png": "c",
    }
    for name in ("0", "2"):
        (tmp_path / "placed" / name).mkdir(parents=True)
    assert {k: p.name for k, p in folders_of_views(tmp_path / "placed", views).items()} == {
        "a.png": "0",
        "c.png": "2",
    }
    (tmp_path / "other" / "x").mkdir(parents=True)
    with pytest.raises(UserError, match="no sub-folder of any of the 3 views, such as b; .* x"):
        folders_of_views(tmp_path / "other", views)
    with pytest.raises(UserError, match="no such folder"):
        folders_of_views(tmp_path / "nowhere", views)


def test_masks_are_read_at_the_size_of_the_camera(tmp_path: Path) -> None:
    seen = view(tmp_path, "a.png")
    large = np.kron(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3 == 0, np.ones((2, 2)))
    save(tmp_path / "masks/a/red cup.png", large)
    masks = FolderMasks(tmp_path / "masks", [seen])
    assert masks.texts() == ["red cup"]
    found = masks.mask("red cup", seen)
    np.testing.assert_array_equal(found, large[::2, ::2] > 0)
    assert masks.mask("blue cup", seen) is None
    save(tmp_path / "masks/a/tall.png", np.ones((30, 10)))
    with pytest.raises(DataError, match="tall.png: 10x30 pixels do not have the shape of a.png"):
        masks.mask("tall", seen)
    (tmp_path / "masks/a/torn.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataError, match="torn.png is not a readable mask"):
        masks.mask("torn", seen)


def test_a_mask_on_the_upright_picture_is_turned(tmp_path: Path) -> None:
    picture = StoredPicture(WIDTH, HEIGHT, orientation=6)
    seen = view(tmp_path, "a.png", picture)
    stored = np.zeros((HEIGHT, WIDTH), bool)
    stored[1, 2] = True
    save(tmp_path / "masks/a/dot.png", np.rot90(stored, -1))  # 6: shown turned clockwise
    found = FolderMasks(tmp_path / "masks", [seen]).mask("dot", seen)
    np.testing.assert_array_equal(found, stored)


PROGRAM = """
import sys
import numpy as np
from PIL import Image
image, prompt, output = sys.argv[1:]
if prompt == "fails":
    sys.exit("no such word")
if prompt != "silent":
    red = np.asarray(Image.open(image).convert("RGB"))[..., 0] > 128
    Image.fromarray((red & (prompt == "the red; half")).astype(np.uint8) * 255).save(output)
"""


def test_a_program_is_asked_without_a_shell(tmp_path: Path) -> None:
    program = tmp_path / "my program.py"
    program.write_text(PROGRAM)
    command = f"'{sys.executable}' '{program}' {{image}} {{prompt}} {{output}}"
    masks, seen = CommandMasks(command, 60), view(tmp_path, "a.png")
    found = masks.mask("the red; half", seen)
    assert found is not None and found[:, :6].all() and not found[:, 6:].any()
    nothing = masks.mask("green", seen)
    assert nothing is not None and not nothing.any()
    with pytest.raises(DataError, match="wrote no file .* for 'silent' in a.png"):
        masks.mask("silent", seen)
    with pytest.raises(RunError, match="exit code 1: no such word"):
        masks.mask("fails", seen)
    with pytest.raises(UserError, match="was not found"):
        CommandMasks("no_such_program_here {image}", 5).mask("x", seen)
    with pytest.raises(UserError, match="--command is empty"):
        CommandMasks(" ", 5)
