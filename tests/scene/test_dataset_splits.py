# SPDX-License-Identifier: Apache-2.0
"""At what size images are used, and which of them are held out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arguments import ModelParams
from scene.dataset import Scene, load_scene
from scene.splits import render_size, thin_out
from utils.errors import DataError, FormatError, UserError

MakeScene = Callable[..., Path]


def load(source: Path, **changes: Any) -> Scene:
    return load_scene(ModelParams(str(source), no_masks=True, **changes), seed=0)


def names(views: tuple[Any, ...]) -> list[str]:
    return [view.name for view in views]


@pytest.mark.parametrize(
    ("size", "resolution", "expected"),
    [
        ((3118, 2078), 1, (3118, 2078)),
        ((3118, 2078), 2, (1559, 1039)),
        ((3118, 2078), 4, (780, 520)),
        ((101, 75), 8, (13, 9)),
        ((3118, 2078), -1, (1600, 1066)),
        ((1600, 4000), -1, (1600, 4000)),
        ((640, 480), 320, (320, 240)),
        ((640, 480), 7, (7, 5)),
    ],
)
def test_resolution_rule(size: tuple[int, int], resolution: int, expected: tuple[int, int]) -> None:
    assert render_size(*size, resolution) == expected


@pytest.mark.parametrize("resolution", [0, -2])
def test_resolutions_without_meaning(resolution: int) -> None:
    with pytest.raises(UserError, match="--resolution"):
        render_size(640, 480, resolution)


def test_eval_holds_out_every_eighth_by_name(make_scene: MakeScene) -> None:
    order = [f"{i:02d}.png" for i in (5, 3, 16, 0, 1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)]
    scene = load(make_scene(order), eval=True)
    assert names(scene.test) == ["00.png", "08.png", "16.png"]
    assert len(scene.train) == 14 and not set(names(scene.train)) & set(names(scene.test))
    assert names(load(make_scene(order), eval=True, n_views=3).train) == [
        "01.png",
        "07.png",
        "15.png",
    ]


def test_n_views() -> None:
    many = [str(i) for i in range(120)]
    assert thin_out(many, 100) == many
    assert thin_out(many, 50) == many[::2]
    assert thin_out(many, 2) == ["0", "119"] and thin_out(many, 1) == ["0"]
    assert len(set(thin_out(many, 37))) == 37
    assert thin_out(many[:5], 9) == many[:5]
    with pytest.raises(UserError, match="--n_views"):
        thin_out(many, 0)


def test_a_split_file_wins_with_eval(make_scene: MakeScene) -> None:
    source = make_scene()
    record = {"train": ["002.png", "001.png"], "test": ["005.png", "not there.png"]}
    (source / "split.json").write_text(json.dumps(record))
    scene = load(source, eval=True)
    assert (names(scene.train), names(scene.test)) == (["001.png", "002.png"], ["005.png"])
    assert len(load(source).train) == 9
    for bad in ({"train": ["001.png"]}, {"train": ["001.png"], "test": ["001.png"]}):
        (source / "split.json").write_text(json.dumps(bad))
        with pytest.raises(FormatError, match="split.json"):
            load(source, eval=True)


def test_train_split_takes_the_names_of_a_folder(make_scene: MakeScene) -> None:
    source = make_scene()
    with pytest.raises(DataError, match="images_train"):
        load(source, train_split=True)
    (source / "images_train").mkdir()
    with pytest.raises(DataError, match="none of the scene's 9"):
        load(source, train_split=True)
    for name in ("003.jpg", "004.png", "extra.png"):
        (source / "images_train" / name).touch()
    scene = load(source, train_split=True, n_views=1)
    assert names(scene.train) == ["003.png", "004.png"] and len(scene.test) == 7
