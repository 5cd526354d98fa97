# SPDX-License-Identifier: Apache-2.0
"""How predicted and true instances of one view overlap, counted once and used by every score.

Notation: P predicted and G true instances of a view; id 0 is "no instance" on either side and
never an instance itself. Label maps are integer arrays [H, W] in memory; nothing here resizes them
or reads them back from images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Above this the lookup table of an id costs more than sorting the pixels.
_LARGEST_TABLE = 1 << 20
# Boundary IoU (arXiv 2103.16562) takes the pixels within 2 % of the image diagonal of the outline.
BOUNDARY_SHARE = 0.02


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of one pair of label maps, or of a whole scene.

    predicted [P] and true [G] are the sorted nonzero ids, int64; intersection [P, G],
    predicted_area [P] and true_area [G] in pixels, int64 (float64 where points carry weights).
    """

    predicted: np.ndarray
    true: np.ndarray
    intersection: np.ndarray
    predicted_area: np.ndarray
    true_area: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of every pair, float64 [P, G]; 0 where both are empty."""
        union = self.predicted_area[:, None] + self.true_area[None, :] - self.intersection
        return self.intersection / np.maximum(union, np.finfo(np.float64).tiny)


def label_array(labels: np.ndarray, what: str) -> np.ndarray:
    """Check that `labels` is a map of ids >= 0 and return it as int64; ValueError names `what`."""
    array = np.asarray(labels)
    if array.ndim != 2:
        raise ValueError(f"{what} must be a label map [H, W], got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{what} must hold integer ids, got {array.dtype}")
    if array.size and array.min() < 0:
        raise ValueError(f"{what} holds a negative id")
    return array.astype(np.int64)


def comparable_pair(
    prediction: np.ndarray, truth: np.ndarray, zero_label: str, *, min_true: int, min_predicted: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two label maps of equal size in which unscored pixels are 0 on both sides.

    Unscored are the pixels of truth -1, those of true instances smaller than `min_true` and, under
    zero_label "ignore", those of true id 0. Predicted instances of fewer than `min_predicted`
    scored pixels become 0.
    """
    unknown = np.asarray(truth) == -1
    truth = np.where(unknown, 0, truth)
    prediction, truth = label_array(prediction, "prediction"), label_array(truth, "truth")
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction {prediction.shape} and truth {truth.shape} differ in size: "
            "resize label maps by nearest neighbour before scoring"
        )
    scored_truth = _without_small(truth, min_true)
    void = (scored_truth != truth) | unknown
    if zero_label == "ignore":
        void |= truth == 0
    prediction = np.where(void, 0, prediction)
    return _without_small(prediction, min_predicted), scored_truth


def _without_small(labels: np.ndarray, min_area: int) -> np.ndarray:
    if min_area <= 1:
        return labels
    ids, position, area = np.unique(labels, return_inverse=True, return_counts=True)
    return np.where(area >= min_area, ids, 0)[position].reshape(labels.shape)


def _positions(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted ids with 0 first (present or not) [K], and each pixel's position in them [H*W]."""
    flat = labels.ravel()
    largest = int(flat.max(initial=0))
    if largest >= _LARGEST_TABLE:
        ids = np.union1d(np.zeros(1, np.int64), flat)
        return ids, np.searchsorted(ids, flat)
    present = np.bincount(flat, minlength=largest + 1) > 0
    present[0] = True
    return np.flatnonzero(present), (np.cumsum(present) - 1)[flat]


def count_overlap(
    prediction: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> Overlap:
    """Overlap of two maps as `comparable_pair` returns them; weights: of the pixels, same shape."""
    predicted, row = _positions(prediction)
    true, column = _positions(truth)
    return _count(predicted, true, row, column, None if weights is None else weights.ravel())


def count_with_boundaries(prediction: np.ndarray, truth: np.ndarray) -> tuple[Overlap, Overlap]:
    """Overlaps of the regions and of their inner boundaries; maps as of `comparable_pair`."""
    predicted, row = _positions(prediction)
    true, column = _positions(truth)
    width = boundary_width(*truth.shape)
    row_edge = row * outline_pixels(row.reshape(truth.shape), width).ravel()
    column_edge = column * outline_pixels(column.reshape(truth.shape), width).ravel()
    return (
        _count(predicted, true, row, column, None),
        _count(predicted, true, row_edge, column_edge, None),
    )


def _count(
    predicted: np.ndarray,
    true: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    weights: np.ndarray | None,
) -> Overlap:
    """Contingency table of positions into ids that both begin with 0."""
    shape = (len(predicted), len(true))
    counts = np.bincount(row * shape[1] + column, weights, minlength=shape[0] * shape[1])
    counts = counts.reshape(shape)
    return Overlap(predicted[1:], true[1:], counts[1:, 1:], counts.sum(1)[1:], counts.sum(0)[1:])


def outline_pixels(labels: np.ndarray, dilation: int) -> np.ndarray:
    """Pixels that an erosion of their own region removes, for all regions at once; bool [H, W].

    The erosion is `dilation` steps of a 3x3 square with nothing outside the image: a pixel survives
    exactly if its window of 2 dilation + 1 lies in the image and holds no step between two labels.
    """
    padded = np.pad(labels.astype(np.int32), 1, constant_values=-1)
    across = (padded[1:-1, 1:] != padded[1:-1, :-1]).view(np.uint8)  # [H, W + 1]
    down = (padded[1:, 1:-1] != padded[:-1, 1:-1]).view(np.uint8)  # [H + 1, W]
    return (
        _any_near(_steps_near(across, 1, dilation), 0, dilation)
        | _any_near(_steps_near(down, 0, dilation), 1, dilation)
    ).view(bool)


def _steps_near(steps: np.ndarray, axis: int, dilation: int) -> np.ndarray:
    """For each pixel, whether a step lies inside its window along `axis`.

    Entry e of `steps` is the step before pixel e, so pixel c asks for entries c - d + 1 .. c + d.
    """
    near = _largest_near(steps, axis, 2 * dilation)  # e - d .. e + d - 1
    return np.take(near, np.arange(1, steps.shape[axis]), axis=axis)


def _any_near(flags: np.ndarray, axis: int, dilation: int) -> np.ndarray:
    return _largest_near(flags, axis, 2 * dilation + 1)


def _largest_near(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Largest of the `size` entries from size // 2 before each along `axis`; none lie outside."""
    import cv2  # not every command scores

    kernel = np.ones((size, 1) if axis == 0 else (1, size), np.uint8)
    anchor = (0, size // 2) if axis == 0 else (size // 2, 0)
    return cv2.dilate(np.ascontiguousarray(values), kernel, anchor=anchor)


def boundary_width(height: int, width: int) -> int:
    """The dilation of boundary IoU for an image, in pixels, at least 1."""
    return max(1, round(BOUNDARY_SHARE * float(np.hypot(height, width))))


def scene_overlap(overlaps: Iterable[Overlap]) -> Overlap:
    """All pixels of the scene as one picture: an id is one tube through all views."""
    views = list(overlaps)
    empty = np.zeros(0, np.int64)
    predicted = np.unique(np.concatenate([empty, *(view.predicted for view in views)]))
    true = np.unique(np.concatenate([empty, *(view.true for view in views)]))
    number = np.result_type(np.int64, *(view.intersection.dtype for view in views))
    total = Overlap(
        predicted,
        true,
        np.zeros((len(predicted), len(true)), number),
        np.zeros(len(predicted), number),
        np.zeros(len(true), number),
    )
    for view in views:
        rows = np.searchsorted(predicted, view.predicted)
        columns = np.searchsorted(true, view.true)
        total.intersection[np.ix_(rows, columns)] += view.intersection
        total.predicted_area[rows] += view.predicted_area
        total.true_area[columns] += view.true_area
    return total


def best_assignment(overlap: Overlap) -> dict[int, int]:
    """One-to-one map, predicted id -> true id, of the largest summed IoU, without empty pairs."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(overlap.iou, maximize=True)
    return {
        int(overlap.predicted[i]): int(overlap.true[j])
        for i, j in zip(rows, columns, strict=True)
        if overlap.intersection[i, j] > 0
    }


def partner_positions(overlap: Overlap, assignment: dict[int, int] | None) -> np.ndarray:
    """For each predicted instance the position of its true partner in this view, or -1; int [P].

    `assignment` maps predicted to true ids; None matches equal ids.
    """
    if not len(overlap.true):
        return np.full(len(overlap.predicted), -1)
    if assignment is None:
        wanted = overlap.predicted
    else:
        wanted = np.array([assignment.get(int(i), -1) for i in overlap.predicted], np.int64)
    position = np.minimum(np.searchsorted(overlap.true, wanted), len(overlap.true) - 1)
    return np.where(overlap.true[position] == wanted, position, -1)
