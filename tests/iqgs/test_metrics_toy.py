# SPDX-License-Identifier: Apache-2.0
"""Seven predictions of a toy scene whose scores a slow, independent script has counted."""

from __future__ import annotations

import numpy as np
import pytest

from iqgs.evaluation.scorer import SceneScorer, SceneScores

VIEWS, HEIGHT, WIDTH, OBJECTS = 20, 96, 128, 24

# Percent: id match, per-view, scene-wide mIoU_pred; GT-side mIoU; PQ image, PQ scene, F1@.5.
TABLE = {
    "perfect": (100, 100, 100, 100, 100, 100, 100),
    "only the biggest object": (100, 100, 100, 4.2, 8.0, 8.0, 8.0),
    "only the 3 biggest": (100, 100, 100, 12.5, 22.2, 22.2, 22.2),
    "ids shuffled in every view": (3.3, 100, 15.0, 15.0, 100, 0.0, 0.0),
    "perfect + 15 one-pixel specks a view": (61.5, 61.5, 61.5, 99.9, 76.1, 76.1, 76.2),
    "objects merged in pairs": (43.1, 66.1, 66.1, 33.1, 32.7, 33.0, 44.4),
    "perfect, other numbering": (0.0, 100, 100, 100, 100, 100, 100),
}


def toy_truth(rng: np.random.Generator) -> np.ndarray:
    """Squares that drift over the views, small ones in front; [V, H, W], ids 1..K.

    The draws, in this order, are those behind TABLE.
    """
    squares = []
    for _ in range(OBJECTS):
        size = int(rng.choice([6, 8, 10, 14, 20, 30], p=[0.3, 0.25, 0.2, 0.12, 0.08, 0.05]))
        top, left = rng.integers(0, HEIGHT - size), rng.integers(0, WIDTH - size)
        squares.append((top, left, size, rng.integers(-1, 2), rng.integers(-1, 2)))
    truth = np.zeros((VIEWS, HEIGHT, WIDTH), np.int64)
    for view in range(VIEWS):
        for k in np.argsort([-square[2] for square in squares]):
            top, left, size, down, right = squares[k]
            top = int(np.clip(top + down * view // 2, 0, HEIGHT - size))
            left = int(np.clip(left + right * view // 2, 0, WIDTH - size))
            truth[view, top : top + size, left : left + size] = k + 1
    return truth


def toy_predictions(truth: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    biggest = sorted(range(1, OBJECTS + 1), key=lambda k: -(truth == k).sum())
    shuffled, specks, merged = truth.copy(), truth.copy(), truth.copy()
    for view in range(VIEWS):
        shuffled[view] = np.r_[0, 1 + rng.permutation(OBJECTS)][truth[view]]
    for view in range(VIEWS):
        for n in range(15):
            row, column = rng.integers(0, HEIGHT - 1), rng.integers(0, WIDTH - 1)
            specks[view, row, column] = OBJECTS + 1 + n
    for k in range(1, OBJECTS, 2):
        merged[truth == k + 1] = k
    renumbered = np.r_[0, 100 + rng.permutation(OBJECTS)][truth]
    predictions = (
        truth,
        np.where(truth == biggest[0], truth, 0),
        np.where(np.isin(truth, biggest[:3]), truth, 0),
        shuffled,
        specks,
        merged,
        renumbered,
    )
    return dict(zip(TABLE, predictions, strict=True))


@pytest.fixture(scope="module")
def toy() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    truth = toy_truth(rng)
    return truth, toy_predictions(truth, rng)


def score(
    prediction: np.ndarray, truth: np.ndarray, matching: str = "id", zero_label: str = "background"
) -> SceneScores:
    """Scores of stacks of label maps [V, H, W]."""
    scorer = SceneScorer(matching, zero_label)
    for number, (ours, true) in enumerate(zip(prediction, truth, strict=True)):
        scorer.add_view(f"{number:03d}.png", ours, true)
    return scorer.result()


@pytest.mark.parametrize("name", list(TABLE))
def test_toy_table(name: str, toy: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    truth, predictions = toy
    by_matching = [score(predictions[name], truth, m).values for m in ("id", "view", "scene")]
    row = [float(values["mIoU_pred"]) for values in by_matching]
    row += [float(by_matching[2][key]) for key in ("mIoU_gt", "PQ", "PQ_scene", "F1")]
    assert [round(100 * value, 1) for value in row] == pytest.approx(TABLE[name])
    for values in by_matching:  # what matches by IoU does not depend on the matching
        for key in ("PQ", "PQ_scene", "F1", "AP", "id_switches"):
            assert values[key] == by_matching[0][key]
