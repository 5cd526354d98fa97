# SPDX-License-Identifier: Apache-2.0
"""What edits do to splats, seen through cameras."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from iqgs.objects import edits
from iqgs.objects.applying import apply_edit
from iqgs.objects.colors import LUMA, mean_color
from iqgs.objects.labelled import LabelledSplats
from iqgs.objects.parts import connected_pieces
from scene.frame import SceneFrame
from scene.gaussian_model import GaussianModel

from .figures import (
    BALL,
    RING,
    WALL,
    ball,
    ball_in_ring,
    camera,
    label_map,
    labelled,
    orbit,
    picture,
)


@pytest.fixture
def objects() -> LabelledSplats:
    return ball_in_ring()


def iou(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one & other).sum() / (one | other).sum())


def same(one: LabelledSplats, other: LabelledSplats) -> bool:
    params = zip(one.splats.params.values(), other.splats.params.values(), strict=True)
    return torch.equal(one.labels, other.labels) and all(torch.equal(a, b) for a, b in params)


@pytest.mark.parametrize(("gone", "stays"), [(RING, BALL), (BALL, RING)])
def test_removal_leaves_what_stands_in_a_ring_and_round_it(
    objects: LabelledSplats, gone: int, stays: int
) -> None:
    after = apply_edit(objects, edits.Remove((gone,)))
    assert set(after.numbers()) == {BALL, RING, WALL} - {gone} and gone not in after.names
    assert same(after.of(stays), objects.of(stays)) and same(after.of(WALL), objects.of(WALL))
    for view in orbit():
        before, now = label_map(objects, view), label_map(after, view)
        seen = before == stays
        assert seen.sum() > 50
        # What was in front of it no longer is: only pixels that showed it before are compared.
        assert iou(now == stays, seen | ((now == stays) & (before == gone))) >= 0.99
        assert not bool((now == gone).any())


def test_the_hull_takes_what_stands_in_a_ring_only_if_asked(objects: LabelledSplats) -> None:
    after = apply_edit(objects, edits.Remove((RING,), hull=True)).of(BALL)
    height = objects.of(BALL).splats.means[:, 2].abs()
    # The hull of a ring is as thick as the ring, made of ten flat sides; the ball is taller.
    assert int((height > 0.12).sum()) <= len(after) <= int((height > 0.11).sum()) < len(height)
    flat = labelled({WALL: objects.of(WALL).splats, BALL: objects.of(BALL).splats})
    assert apply_edit(flat, edits.Remove((WALL,), hull=True)).numbers() == [BALL]


def test_what_an_object_hides_goes_with_it(objects: LabelledSplats) -> None:
    inside = labelled({BALL: ball((0.0, 0.0, 0.0), 0.1, 20)}).splats
    parts = labelled({0: inside, **{n: objects.of(n).splats for n in (BALL, RING, WALL)}})
    hidden = torch.where(parts.labels == 0, BALL, 0)
    known = dataclasses.replace(parts, hidden=hidden)
    assert 0 in apply_edit(parts, edits.Remove((BALL,))).labels
    assert 0 not in apply_edit(known, edits.Remove((BALL,))).labels
    kept = apply_edit(known, edits.Remove((RING,)))
    assert int((kept.labels == 0).sum()) == 20 and int((kept.hidden == BALL).sum()) == 20
    moved = apply_edit(known, edits.Move((BALL,), edits.Motion((0.0, 0.0, 0.0), (0.0, 0.0, 1.0))))
    shift = moved.of(0).splats.means - inside.means
    assert torch.allclose(shift, torch.tensor([0.0, 0.0, 1.0]).expand(20, 3), atol=1e-6)
    merged = apply_edit(known, edits.Merge((BALL, RING), RING))
    assert int((merged.hidden == RING).sum()) == 20
    assert apply_edit(known, edits.Isolate((BALL,))).numbers() == [BALL]


def test_something_of_the_scene_is_left(objects: LabelledSplats) -> None:
    with pytest.raises(ValueError, match="no splat would be left"):
        apply_edit(apply_edit(objects, edits.Isolate((1, 2))), edits.Remove((1, 2)))


def test_isolating_is_removing_all_others(objects: LabelledSplats) -> None:
    one = apply_edit(objects, edits.Isolate((BALL,)))
    assert same(one, apply_edit(objects, edits.Remove((RING, WALL))))
    assert one.names == {BALL: "ball"}


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_moved_object_looks_as_from_a_camera_that_moved_the_other_way(
    objects: LabelledSplats, scale: float
) -> None:
    """Harmonics must turn along, or the gloss would stay behind."""
    only = apply_edit(objects, edits.Isolate((BALL,)))
    motion = edits.Motion((0.1, 0.0, 0.0), (0.4, -0.3, 0.2), (1.0, 2.0, 0.5), 70.0, scale)
    moved = apply_edit(only, edits.Move((BALL,), motion))
    view = camera((0.3, -2.0, 1.0))
    axis = np.array(motion.axis) / np.linalg.norm(motion.axis)
    turn = Rotation.from_rotvec(np.radians(motion.degrees) * axis).as_matrix()
    middle = np.array(motion.center)
    # x' = s R (x - c) + c + by  is seen by W'(x') as x is by W, up to the scale of all depths
    pose = np.eye(4)
    pose[:3, :3] = view.world_to_view[:3, :3].numpy() @ turn.T
    center = scale * turn @ (view.center.numpy() - middle) + middle + np.array(motion.by)
    pose[:3, 3] = -pose[:3, :3] @ center
    other = dataclasses.replace(view, world_to_view=torch.tensor(pose))
    difference = (picture(moved, other) - picture(only, view)).abs().amax(dim=0)
    # Discs on edge are left out below a size in pixels and depth: a few pixels fall either way.
    assert float(difference.flatten().quantile(0.998)) < 1e-5
    assert not torch.allclose(picture(moved, view), picture(only, view), atol=0.1)


def test_a_colour_replaces_hue_and_keeps_shade(objects: LabelledSplats) -> None:
    target = (0.2, 0.6, 0.3)
    after = apply_edit(objects, edits.Recolor((BALL,), target))
    assert same(after.of(RING), objects.of(RING))
    before, now = objects.of(BALL).splats, after.of(BALL).splats
    luma = torch.tensor(LUMA)
    base = float(mean_color(before) @ luma)
    for view in orbit(3):
        alpha = picture(dataclasses.replace(objects.of(BALL), splats=now), view).sum(0) > 0.3
        old = picture(dataclasses.replace(objects.of(BALL), splats=before), view)
        new = picture(dataclasses.replace(objects.of(BALL), splats=now), view)
        shade = torch.einsum("c,chw->hw", luma, old) / base
        wanted = torch.tensor(target)[:, None, None] * shade
        # The renderer clamps each splat's colour at 0, which is not linear.
        assert float((new - wanted).abs()[:, alpha].mean()) < 0.01
    again = apply_edit(after, edits.Recolor((BALL,), target))
    assert torch.allclose(again.of(BALL).splats.sh, now.sh, atol=0.05)


def test_a_copy_gets_a_number_and_the_original_stays(objects: LabelledSplats) -> None:
    motion = edits.Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.9))
    after = apply_edit(objects, edits.Copy((BALL,), (8,), motion))
    assert same(after.rows(torch.arange(len(objects))), objects)
    assert torch.allclose(
        after.of(8).splats.means - objects.of(BALL).splats.means,
        torch.tensor([0.0, 0.0, 0.9]).expand(300, 3),
        atol=1e-6,
    )
    assert after.names[8] == "ball copy"
    with pytest.raises(ValueError, match="number 2 cannot be"):
        apply_edit(objects, edits.Copy((BALL,), (RING,), motion))


def test_new_objects_have_names_of_their_own(objects: LabelledSplats) -> None:
    """So that each can be meant by its name."""
    here = edits.Motion((0.0, 0.0, 0.0))
    after = objects
    for number in (8, 9, 10):
        after = apply_edit(after, edits.Copy((1,), (number,), here))
    for number, box in ((11, (-9.0, -9.0, 0.1, 9.0, 9.0, 9.0)), (12, (-9.0, -9.0, -9.0, 0, 9, 9))):
        after = apply_edit(after, edits.Split(1, (number,), box=box))
    names = [after.names[number] for number in (8, 9, 10, 11, 12)]
    assert names == ["ball copy", "ball copy 2", "ball copy 3", "ball 2", "ball 3"]


def test_merged_objects_are_one_and_can_be_parted_again(objects: LabelledSplats) -> None:
    one = apply_edit(objects, edits.Merge((BALL, RING), RING))
    assert one.numbers() == [RING, WALL] and one.names == {RING: "ring"}
    # The ball does not touch the ring, so pieces part them; the ring has more splats.
    two = apply_edit(one, edits.Split(RING, (9,)))
    assert torch.equal(two.labels == 9, objects.labels == BALL)
    box = (-0.4, -0.4, -0.4, 0.4, 0.4, 0.4)
    assert torch.equal(apply_edit(one, edits.Split(RING, (9,), box=box)).labels, two.labels)
    half = apply_edit(objects, edits.Split(BALL, (9,), plane=(0.0, 0.0, 0.1, 0.0, 0.0, 2.0)))
    above = (objects.labels == BALL) & (objects.splats.means[:, 2] > 0.1)
    assert torch.equal(half.labels == 9, above)


def test_one_piece_stays_one_piece_and_dust_is_none(objects: LabelledSplats) -> None:
    whole = objects.of(BALL).splats
    assert not bool(connected_pieces(whole).any())
    speck = labelled({1: whole, 2: ball((3.0, 0.0, 0.0), 0.05, 4)}).splats
    assert not bool(connected_pieces(speck).any())
    with pytest.raises(ValueError, match="stays in one piece"):
        apply_edit(objects, edits.Split(BALL, ()))
    with pytest.raises(ValueError, match="all of object 1"):
        everything = (-9.0, -9.0, -9.0, 9.0, 9.0, 9.0)
        apply_edit(objects, edits.Split(BALL, (9,), box=everything))


def test_names_come_and_go(objects: LabelledSplats) -> None:
    named = apply_edit(objects, edits.Name(BALL, "globe"))
    assert named.names == {BALL: "globe", RING: "ring"} and same(named, objects)
    assert apply_edit(named, edits.Name(BALL, "")).names == {RING: "ring"}


@pytest.mark.parametrize(
    "edit",
    [
        edits.Remove((5,)),
        edits.Isolate((1, 5)),
        edits.Recolor((5,), (0.0, 0.0, 0.0)),
        edits.Move((5,), edits.Motion((0.0, 0.0, 0.0))),
        edits.Copy((5,), (9,), edits.Motion((0.0, 0.0, 0.0))),
        edits.Merge((1, 2), 5),
        edits.Split(5, (9,)),
        edits.Name(5, "x"),
    ],
    ids=lambda edit: type(edit).__name__,
)
def test_an_object_that_is_not_there_is_named(objects: LabelledSplats, edit: edits.Edit) -> None:
    with pytest.raises(ValueError, match="there is no object 5; there are 1 'ball', 2 'ring', 7"):
        apply_edit(objects, edit)


def test_nothing_that_comes_in_is_changed(objects: LabelledSplats) -> None:
    framed = dataclasses.replace(objects, frame=SceneFrame((1.0, 2.0, 3.0)))
    motion = edits.Motion((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), degrees=20.0)
    kept = ball_in_ring()
    for edit in (
        edits.Remove((BALL,)),
        edits.Recolor((BALL,), (0.0, 1.0, 0.0)),
        edits.Move((BALL,), motion),
        edits.Copy((BALL,), (9,), motion),
        edits.Merge((BALL, RING), RING),
        edits.Split(BALL, (9,), plane=(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
    ):
        after = apply_edit(framed, edit)
        assert same(framed, kept) and framed.names == {BALL: "ball", RING: "ring"}
        assert after.frame == framed.frame


def test_opacities_of_instances_go_with_their_splats(objects: LabelledSplats) -> None:
    logits = torch.linspace(-4, 4, len(objects.splats))[:, None]
    params = {**objects.splats.params, "instance_opacity_logits": logits}
    own = dataclasses.replace(objects, splats=GaussianModel(params))
    motion = edits.Motion((0.0, 0.0, 1.0), degrees=30.0)
    copied = apply_edit(own, edits.Copy((BALL,), (8,), motion)).splats
    mine = objects.labels == BALL
    found = copied.params["instance_opacity_logits"]
    assert torch.equal(found[: len(logits)], logits)
    assert torch.equal(found[len(logits) :], logits[mine])
    rest = apply_edit(own, edits.Remove((BALL,))).splats
    assert torch.equal(rest.params["instance_opacity_logits"], logits[~mine])
