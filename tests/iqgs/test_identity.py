# SPDX-License-Identifier: Apache-2.0
"""IDF1 and HOTA against TrackEval and py-motmetrics, and against sums that can be done by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from iqgs.evaluation.identity import IdentityScorer


def sequence(seed: int, views: int = 12) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stripes of true ids; found ids that switch, are missing, and have moved borders."""
    rng = np.random.default_rng(seed)
    pairs = []
    for view in range(views):
        truth = np.zeros((12, 40), np.int64)
        found = np.zeros((12, 40), np.int64)
        for number in range(1, 6):
            left = 8 * (number - 1)
            truth[:, left : left + 7] = number
            if rng.random() < 0.15:
                continue
            shift = int(rng.integers(0, 4))
            name = number + 10 * (view > 5 and number == 2) + (rng.random() < 0.1) * 50
            found[:, left + shift : left + 7] = name
        pairs.append((truth, found))
    return pairs


def scored(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    scorer = IdentityScorer()
    for truth, found in pairs:
        scorer.add_view(truth, found)
    return scorer.result()


def iou(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """[T, P] by the definition."""
    return np.array(
        [
            [
                ((truth == t) & (found == f)).sum() / ((truth == t) | (found == f)).sum()
                for f in np.unique(found[found > 0])
            ]
            for t in np.unique(truth[truth > 0])
        ]
    )


# HOTA, DetA, AssA of the sequences above by TrackEval 1.0.0 (which wants numpy < 2, so it is not
# installed beside us).
TRACKEVAL = {
    0: (0.555210692, 0.590563610, 0.523280793),
    1: (0.594882932, 0.667317796, 0.530947594),
    2: (0.580410547, 0.639779353, 0.526777292),
    3: (0.566958698, 0.627464385, 0.513681531),
}


@pytest.mark.parametrize("seed", TRACKEVAL)
def test_hota_like_trackeval(seed: int) -> None:
    found = scored(sequence(seed))
    ours = [found[key] for key in ("HOTA", "DetA", "AssA")]
    assert ours == pytest.approx(TRACKEVAL[seed], abs=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_idf1_like_motmetrics(seed: int) -> None:
    motmetrics = pytest.importorskip("motmetrics")
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for truth, found in sequence(seed):
        distance = 1 - iou(truth, found)
        distance[distance > 0.5 + 1e-9] = np.nan
        accumulator.update(np.unique(truth[truth > 0]), np.unique(found[found > 0]), distance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (idf1,) = motmetrics.metrics.create().compute(accumulator, metrics=["idf1"])["idf1"]
    assert scored(sequence(seed))["IDF1"] == pytest.approx(idf1, abs=1e-9)


def test_by_hand() -> None:
    truth = np.array([[1, 1, 2, 2]])
    other = np.array([[5, 5, 6, 6]])
    assert scored([(truth, other)] * 4) == {"IDF1": 1, "HOTA": 1, "DetA": 1, "AssA": 1}
    # Half of the views call object 1 by another name: of 4 masks 3 are under their identity's.
    turned = [(np.array([[1, 1]]), np.array([[n, n]])) for n in (5, 5, 5, 7)]
    found = scored(turned)
    assert found["IDF1"] == pytest.approx(2 * 3 / 8)
    # AssA: three hits of 5 with TPA 3, FNA 1; one hit of 7 with TPA 1, FNA 3: mean of 3/4 and 1/4
    assert found["AssA"] == pytest.approx((3 * 3 / 4 + 1 * 1 / 4) / 4)
    assert found["DetA"] == 1 and found["HOTA"] == pytest.approx(np.sqrt(10 / 16))


def test_what_was_set_aside_is_missed_and_what_has_no_truth_is_not_looked_at() -> None:
    truth = np.array([[1, 1, 2, 2, -1]])
    assert scored([(truth, np.array([[1, 1, -1, -1, 9]]))])["IDF1"] == pytest.approx(2 / 3)
    assert all(np.isnan(v) for v in scored([(np.array([[0, 0]]), np.array([[0, 0]]))]).values())
    assert all(np.isnan(v) for v in IdentityScorer().result().values())
