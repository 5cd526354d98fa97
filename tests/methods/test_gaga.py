# SPDX-License-Identifier: Apache-2.0
"""Gaga: which splats speak for a mask, how masks become groups, and how groups are learned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization.types import BlendWeights
from iqgs.methods.gaga import GagaParams
from iqgs.methods.memory_bank import FrontRules, MemoryBank, splats_in_front, splats_seen
from iqgs.methods.protocol import FitView
from scene.cameras import Camera
from tests.methods.batches import make_batch, make_facts, make_method, matrix
from utils.errors import UserError


def weights_of(dense: Tensor) -> BlendWeights:
    """Blending weights from a table [P, N]."""
    shown = dense > 0
    start = torch.cat([torch.zeros(1, dtype=torch.int64), shown.sum(dim=1).cumsum(0)])
    return BlendWeights(start, shown.nonzero()[:, 1].int(), dense[shown], dense.shape[1])


def listed(found: dict[int, Tensor]) -> dict[int, list[int]]:
    return {label: splats.tolist() for label, splats in found.items()}


def test_seen_splats_lie_almost_whole_in_one_mask() -> None:
    """Splat 0 is in mask 2; 1 is half in each; 2 is four fifths in mask 5; 3 is hardly seen; 4 is
    outside of masks; of 5 the pixel without a target says nothing.
    """
    dense = matrix(
        [
            [1.0, 0.9, 0.3, 0.5, 0.0, 0.0],
            [0.0, 0.9, 0.6, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.6, 0.0, 0.0, 1.0],
            [0.0, 0.0, 0.0, 0.0, 2.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 5.0],
        ]
    )
    labels = torch.tensor([[2, 5, 5, 0, -1]])
    assert listed(splats_seen(weights_of(dense), labels)) == {2: [0], 5: [2, 5]}


def test_a_splat_on_the_background_speaks_for_nobody() -> None:
    dense = matrix([[0.7], [0.7]])
    assert listed(splats_seen(weights_of(dense), torch.tensor([[0, 1]]))) == {}
    assert listed(splats_seen(weights_of(dense), torch.tensor([[-1, 1]]))) == {}  # 0.7 is too faint
    assert listed(splats_seen(weights_of(2 * dense), torch.tensor([[-1, 1]]))) == {1: [0]}
    assert listed(splats_seen(weights_of(2 * dense), torch.tensor([[-1, -1]]))) == {}


def looking_along_z() -> Camera:
    """8 x 8 pixels; a point (x, y, z) is seen at (4 + 4 x / z, 4 + 4 y / z)."""
    pose = torch.eye(4, dtype=torch.float64)
    return Camera(pose, 4.0, 4.0, 4.0, 4.0, 8, 8, "view", 0)


def test_front_splats_are_the_nearest_of_each_cell_and_mask() -> None:
    """Two cells along each side. Mask 1 fills the left half, mask 2 a part of it and the right."""
    labels = torch.ones(8, 8, dtype=torch.int64)
    labels[:, 3:] = 2
    labels[:4, 4:] = 0

    def at(x: float, y: float, depth: float) -> list[float]:
        return [(x - 4) / 4 * depth, (y - 4) / 4 * depth, depth]

    means = matrix(
        [
            *(at(0.5, 0.5, depth) for depth in (9.0, 3.0, 5.0, 4.0)),  # mask 1, upper left
            at(3.5, 0.5, 8.0),  # mask 2 in the same cell: alone, so it counts
            at(0.5, 6.5, 7.0),  # mask 1, lower left
            *(at(6.5, 6.5, depth) for depth in (2.0, 1.0)),  # mask 2, lower right
            at(6.5, 0.5, 1.0),  # outside of masks
            at(8.5, 0.5, 1.0),  # outside of the view
            [0.0, 0.0, -1.0],  # behind the camera
        ]
    )
    found = splats_in_front(looking_along_z(), means, labels, FrontRules(0.5, 2))
    assert listed(found) == {1: [1, 3, 5], 2: [4, 7]}
    few = splats_in_front(looking_along_z(), means, labels, FrontRules(0.1, 2))
    assert listed(few) == {1: [1, 5], 2: [4, 7]}


def test_masks_join_the_group_that_holds_most_of_them() -> None:
    bank = MemoryBank(40, 0.1, torch.device("cpu"))

    def take(*splats: int) -> int:
        return bank.take(torch.tensor(splats))

    assert take(*range(10)) == 1
    assert take(*range(10, 20)) == 2
    assert take(8, 9, 10, 11, 12) == 2  # three against two; splats 8 and 9 are now held by both
    assert take(9, *range(20, 29)) == 3  # a tenth is not more than a tenth
    assert take(8, 9, *range(29, 37)) == 1  # two tenths, of 1 and of 2: the first
    assert take(36, 37, 38) == 1
    assert bank.count == 3
    with pytest.raises(ValueError, match="at least one splat"):
        take()


# Six splats in two objects; views show one splat a pixel, and their ids mean nothing to others.
VIEWS = {
    0: ([0, 1, 3, 4], [1, 1, 2, 2]),
    1: ([1, 2, 4, 5], [2, 2, 1, 1]),
    2: ([0, 2, 3, 5], [3, 3, 0, 3]),  # id 3 mixes: two of one object, one of the other
}


class Six:
    """Splats of which nothing but their number is known."""

    device = torch.device("cpu")

    def __len__(self) -> int:
        return 6


def view(number: int) -> FitView:
    splats, labels = VIEWS[number]
    dense = torch.zeros(4, 6)
    dense[torch.arange(4), torch.tensor(splats)] = 1.0

    lens: Any = SimpleNamespace(gaussians=Six(), weights=lambda least: weights_of(dense))
    return FitView(lens, torch.tensor([labels]), number=number)


def fitted(**settings: Any) -> Any:
    method = make_method("gaga", GagaParams(**settings), make_facts(3))
    method.fit(view(number) for number in VIEWS)
    return method


def test_ids_of_views_become_groups_of_the_scene() -> None:
    method = fitted()
    assert method.grouped(torch.tensor([1, 2, 0, -1]), 0).tolist() == [1, 2, 0, -1]
    assert method.grouped(torch.tensor([1, 2, 0, -1]), 1).tolist() == [2, 1, 0, -1]
    assert method.grouped(torch.tensor([3, 1]), 2).tolist() == [1, -1]  # view 2 has no id 1
    assert method.ids == "clusters"
    assert len(method.seen) == len(method.classifier.weight) == 3  # two groups and the background


def test_a_strict_bank_begins_more_groups() -> None:
    method = fitted(bank_overlap=0.6)  # a view finds one splat of two, or of three, at most
    assert len(method.seen) == 1 + 5  # two masks in each of two views, one in the third


def test_steps_learn_groups() -> None:
    method = fitted()
    splats = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        method.classifier.weight.zero_()
        method.classifier.bias.copy_(torch.tensor([0.0, 3.0, 1.0]))
    made = method.terms(make_batch(splats, [2, 1], view=1))  # groups 1 and 2
    scores = torch.tensor([0.0, 3.0, 1.0]).log_softmax(0)
    wanted = -(scores[1] + scores[2]) / 2 / torch.log(torch.tensor(3.0))
    torch.testing.assert_close(made.terms["identity"].detach(), wanted)
    assert made.seen.tolist() == [1, 2]


def test_what_is_saved_is_loaded_into_a_method_that_saw_nothing() -> None:
    method = fitted()
    method.observe(torch.tensor([1]))
    other = make_method("gaga", GagaParams(), make_facts(3))
    other.load_state_dict(method.state_dict())
    for name, value in method.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    labels = torch.tensor([1, 2])
    assert torch.equal(other.grouped(labels, 1), method.grouped(labels, 1))


def test_its_parameters_stay_the_same_objects() -> None:
    """The optimizer was made before the groups were known."""
    method = make_method("gaga", GagaParams(), make_facts(3))
    before = [id(p) for group in method.parameter_groups() for p in group["params"]]
    method.fit(view(number) for number in VIEWS)
    assert [id(p) for group in method.parameter_groups() for p in group["params"]] == before


def test_classes_cannot_be_asked_for() -> None:
    with pytest.raises(UserError, match="--classes"):
        GagaParams(classes=12)
    with pytest.raises(UserError, match="--bank_overlap"):
        GagaParams(bank_overlap=1.0)
