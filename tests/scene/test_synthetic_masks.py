# SPDX-License-Identifier: Apache-2.0
"""Degraded masks: every fault alone, at the rate that was asked for, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_erosion

from arguments.synthetic import SHUFFLED, MaskFaults
from scene.masks import FORMATS, MaskContent
from scene.masks.degradation import degrade_folder, degrade_masks, warp
from utils.errors import DataError, UserError

CLEAN = replace(SHUFFLED, fresh=False)
TILE, SIDE = 12, 10  # a chessboard of 100 objects, each touching its neighbours


def board(views: int) -> list[np.ndarray]:
    rows, columns = np.mgrid[: TILE * SIDE, : TILE * SIDE] // TILE
    ids = (rows * SIDE + columns + 1).astype(np.int32)
    return [np.roll(ids, (3 * k, 5 * k), axis=(0, 1)) for k in range(views)]


def degraded(
    knobs: MaskFaults,
    views: int = 20,
    seed: int = 0,
) -> tuple[list[np.ndarray], list[np.ndarray], dict[str, int]]:
    maps = board(views)
    result, counts = degrade_masks(maps, knobs, np.random.default_rng(seed))
    return maps, result, counts


def test_no_fault_changes_nothing() -> None:
    maps, result, counts = degraded(CLEAN)
    assert all(np.array_equal(a, b) for a, b in zip(maps, result, strict=True))
    assert counts["masks"] == 2000 and counts["objects"] == 100


def test_missing_masks() -> None:
    maps, result, counts = degraded(replace(CLEAN, missing=0.1))
    gone = sum(
        int(not (b[a == i] > 0).any())
        for a, b in zip(maps, result, strict=True)
        for i in range(1, 101)
    )
    assert gone == counts["missing"]
    assert 0.08 < gone / 2000 < 0.12
    kept = [b > 0 for b in result]
    assert all((a[k] == b[k]).all() for a, b, k in zip(maps, result, kept, strict=True))


def test_objects_fall_apart_in_two() -> None:
    maps, result, counts = degraded(replace(CLEAN, split_objects=0.25, split_views=0.5))
    assert counts["fragile"] == 25
    parts: dict[int, set[int]] = {}
    torn = 0
    for a, b in zip(maps, result, strict=True):
        for i in range(1, 101):
            present = set(np.unique(b[a == i]).tolist())
            assert i in present and len(present) <= 2
            torn += len(present) - 1
            parts.setdefault(i, set()).update(present - {i})
    assert torn == counts["split"] and 0.42 < torn / (25 * 20) < 0.58
    assert sum(bool(extra) for extra in parts.values()) == 25
    assert max(len(extra) for extra in parts.values()) == 1  # one second id, in all views
    assert min(min(extra) for extra in parts.values() if extra) > 100


def test_switched_ids() -> None:
    maps, result, counts = degraded(replace(CLEAN, switched=0.07))
    changed = [
        (a, b, i)
        for a, b in zip(maps, result, strict=True)
        for i in range(1, 101)
        if (b[a == i] != i).all()
    ]
    assert len(changed) == counts["switched"] and 0.05 < len(changed) / 2000 < 0.09
    new = sum(int(b[a == i][0] > 100) for a, b, i in changed)
    assert 0.35 < new / len(changed) < 0.65


def test_tracks_break_for_good() -> None:
    maps, result, counts = degraded(replace(CLEAN, broken=0.1))
    assert counts["broken"] == 10
    broken = 0
    for i in range(1, 101):
        names = [int(b[a == i][0]) for a, b in zip(maps, result, strict=True)]
        changes = int((np.diff(names) != 0).sum())
        assert names[0] == i and changes <= 1
        broken += changes
    assert broken == 10


def test_merged_masks_take_the_id_of_a_neighbour() -> None:
    maps, result, counts = degraded(replace(CLEAN, merged=0.2), views=3)
    assert 0.12 < counts["merged"] / 300 < 0.28
    a, b = maps[0], result[0]
    for i in range(1, 101):
        name = int(b[a == i][0])
        if name == i:
            continue
        row, column = np.argwhere(a == i).mean(axis=0)
        other = np.argwhere(a == name)
        assert np.abs(other - [row, column]).sum(axis=1).min() < 1.5 * TILE


def test_fresh_ids_in_every_view_keep_zero_and_the_partition() -> None:
    maps = board(4)
    for ids in maps:
        ids[:20] = 0
    result, _ = degrade_masks(maps, SHUFFLED, np.random.default_rng(1))
    for a, b in zip(maps, result, strict=True):
        assert np.array_equal(a == 0, b == 0)
        pairs = {(int(x), int(y)) for x, y in zip(a.ravel(), b.ravel(), strict=True) if x}
        assert len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})
        assert max(y for _, y in pairs) <= 100
    assert (result[0] != maps[0])[20:].mean() > 0.8


def test_pixels_without_a_target_stay_so_and_huge_ids_need_no_huge_table() -> None:
    maps = [ids.copy() for ids in board(3)]
    for ids in maps:
        ids[ids == 7] = 2**31 - 5000
        ids[:30, :30] = -1
    result, counts = degrade_masks(maps, MaskFaults(boundary=0), np.random.default_rng(2))
    for a, b in zip(maps, result, strict=True):
        np.testing.assert_array_equal(a == -1, b == -1)
    assert counts["objects"] == len(np.unique(np.stack(maps))) - 1
    again, _ = degrade_masks(maps, SHUFFLED, np.random.default_rng(2))
    assert max(int(ids.max()) for ids in again) <= 100
    with pytest.raises(DataError, match="renumber"):
        degrade_masks([ids + 4990 for ids in maps], MaskFaults(), np.random.default_rng(2))


def test_folders_of_any_format_are_degraded(tmp_path: Path) -> None:
    ids = np.kron(np.arange(6).reshape(2, 3), np.ones((5, 5), int)).astype(np.int32)
    np.save(make(tmp_path / "arrays/b/1.npy"), ids - 1)
    Image.fromarray(ids).save(make(tmp_path / "arrays/a.tif"))
    degrade_folder(tmp_path, "arrays", "worse", CLEAN, 0)
    found = sorted(path.relative_to(tmp_path) for path in (tmp_path / "worse").rglob("*.*"))
    assert [path.as_posix() for path in found] == ["worse/a.tiff", "worse/b/1.tiff"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "worse/a.tiff")), ids)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "worse/b/1.tiff")), ids - 1)
    colors = np.array([0, 900, 40_000, 7, 8, 70_000])
    FORMATS["rgb_ids"].write(tmp_path / "colors/a.png", MaskContent.of_map(colors[ids]))
    degrade_folder(tmp_path, "colors", "plain", CLEAN, 0)
    numbers = np.array([0, 3, 4, 1, 2, 5])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "plain/a.png")), numbers[ids])


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_outlines_move_by_what_was_asked() -> None:
    ids = np.zeros((120, 160), np.int32)
    ids[:, 80:] = 1
    moved = [warp(ids, 2.0, np.random.default_rng(k)) for k in range(30)]
    shift = np.concatenate([m.sum(axis=1) - 80.0 for m in moved])
    # The column's share of an RMS of 2 pixels, and the rounding to whole pixels.
    assert 1.1 < shift.std() < 1.9
    inner = binary_erosion(ids == 1, iterations=12)
    assert all((m[inner] == 1).all() for m in moved)


def test_same_seed_same_masks_other_seed_others() -> None:
    one, again, other = (degraded(MaskFaults(), 5, seed)[1] for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_knobs_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="--missing"):
        MaskFaults(missing=1.5)
    with pytest.raises(UserError, match="--boundary"):
        MaskFaults(boundary=-1)


def test_empty_views_stay_empty() -> None:
    maps = [np.zeros((20, 30), np.int32)] * 3
    result, counts = degrade_masks(maps, MaskFaults(fresh=True), np.random.default_rng(0))
    assert not any(ids.any() for ids in result)
    assert counts.get("masks", 0) == 0
