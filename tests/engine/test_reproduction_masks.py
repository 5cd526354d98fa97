# SPDX-License-Identifier: Apache-2.0
"""Masks of a table: the truth under other numbers, and faults whose numbers give nothing away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iqgs.engine.reproduction.mask_folders import (
    DEGRADED,
    FRESH,
    TRUTH,
    drawn_ids,
    link_scene,
    objects_of,
    write_masks,
)
from scene.masks.about import write_about
from scene.masks.collection import numbered_maps
from tests.engine.test_reproduction import write_maps
from utils.errors import DataError

KINDS = ("exact", "degraded-raw", "degraded-repaired", "fresh")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Twelve views of a board of 4x4 squares with ids 1 to 16, and one pixel of id 0."""
    board = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((12, 12), int))
    board[0, 0] = 0
    write_maps(tmp_path / "mine/object_mask", [board] * 12)
    (tmp_path / "mine/labels.json").write_text("{}")
    return tmp_path / "mine"


def pairs(one: np.ndarray, two: np.ndarray) -> list[tuple[int, int]]:
    return sorted(set(zip(one.reshape(-1).tolist(), two.reshape(-1).tolist(), strict=True)))


def test_true_masks_are_the_same_under_other_numbers(scene: Path, tmp_path: Path) -> None:
    linked = link_scene(scene, tmp_path / "out")
    write_masks(linked, KINDS)
    before, after = numbered_maps(scene / "object_mask"), numbered_maps(linked / TRUTH)
    assert list(before) == list(after)
    renamed = pairs(
        *(np.stack(list(maps.values())) for maps in (before, after))  # of all views together
    )
    assert len(renamed) == 17 and renamed[0] == (0, 0)
    assert len({new for _, new in renamed}) == 17
    assert max(new for _, new in renamed) > 100, "not the numbers 1 to 16 again"


def test_nothing_is_written_into_the_scene(scene: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in scene.rglob("*"))
    linked = link_scene(scene, tmp_path / "out")
    write_masks(linked, KINDS)
    assert sorted(path.name for path in scene.rglob("*")) == before
    assert not (linked / "labels.json").exists()
    names = {path.name for path in linked.iterdir() if path.is_dir()}
    assert names == {"object_mask", TRUTH, DEGRADED, FRESH}
    write_maps(tmp_path / "other/object_mask", [np.ones((2, 2), int)])
    with pytest.raises(DataError, match="choose another --output"):
        link_scene(tmp_path / "other", tmp_path / "out")


def test_wrong_ids_are_neither_above_nor_below_the_true_ones(scene: Path, tmp_path: Path) -> None:
    linked = link_scene(scene, tmp_path / "out")
    write_masks(linked, KINDS)
    true = objects_of(numbered_maps(linked / TRUTH))
    faulty = numbered_maps(linked / DEGRADED)
    wrong = [number for number in objects_of(faulty) if number not in true]
    assert len(wrong) >= 5
    below = np.mean([np.mean(np.array(true) < number) for number in wrong])
    assert 0.2 < below < 0.8  # 1 where faults are numbered by birth
    truth = numbered_maps(linked / TRUTH)
    same = np.mean([(faulty[name] == truth[name]).mean() for name in truth])
    assert 0.4 < same < 0.95  # faults, but the same objects still


def test_fresh_masks_have_the_same_outlines(scene: Path, tmp_path: Path) -> None:
    linked = link_scene(scene, tmp_path / "out")
    write_masks(linked, ("fresh",))
    assert not (linked / DEGRADED).exists()
    truth, fresh = numbered_maps(linked / TRUTH), numbered_maps(linked / FRESH)
    renamings = [tuple(pairs(truth[name], fresh[name])) for name in truth]
    assert all(len(found) == 17 for found in renamings)
    assert len(set(renamings)) > 1


def test_what_is_no_target_stays_so(tmp_path: Path) -> None:
    write_maps(tmp_path / "mine/object_mask", [np.array([[1, 65535], [2, 0]])])
    write_about(tmp_path / "mine/object_mask", "ids", {"no_target": 65535})
    write_masks(tmp_path / "mine", ("exact",))
    (found,) = numbered_maps(tmp_path / "mine" / TRUTH).values()
    assert found[0, 1] == -1 and found[1, 1] == 0 and found[0, 0] != found[1, 0]
    write_about(tmp_path / "mine/object_mask", "view", {})
    (tmp_path / "mine" / TRUTH).rename(tmp_path / "gone")
    with pytest.raises(DataError, match="no truth to score with"):
        write_masks(tmp_path / "mine", ("exact",))


def test_drawn_ids_are_new_and_not_taken() -> None:
    rng = np.random.default_rng(0)
    names = drawn_ids(range(1, 401), range(1, 1000, 2), rng)
    assert sorted(names) == list(range(1, 401)) and len(set(names.values())) == 400
    assert not any(value % 2 and value < 1000 for value in names.values())
