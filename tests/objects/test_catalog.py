# SPDX-License-Identifier: Apache-2.0
"""What is said of objects, and how they are meant."""

from __future__ import annotations

import math

import pytest
import torch

from iqgs.objects.catalog import by_object, catalog, entry_of, robust_box
from iqgs.objects.selection import next_numbers, number_of, object_at, objects_in_box

from .figures import BALL, RENDERER, RING, WALL, ball, ball_in_ring, camera, labelled


def test_a_catalog_describes_every_object() -> None:
    objects = ball_in_ring()
    entries = catalog(objects)
    assert [entry.id for entry in entries] == [BALL, RING, WALL]
    one, two, _ = entries
    assert one == entry_of(objects, BALL)
    assert (one.name, one.splats, one.parent) == ("ball", 300, None)
    assert one.center == pytest.approx((0, 0, 0), abs=0.01)
    disc = 0.3 * math.sqrt(4 * math.pi / 300) / 1.6
    assert one.size == pytest.approx((0.6,) * 3, abs=2 * disc)
    assert one.size > (0.5,) * 3
    assert one.color == pytest.approx((0.8, 0.2, 0.1), rel=0.05)
    assert two.size == pytest.approx((1.84, 1.84, 0.24), abs=0.12)
    assert one.confidence == 1.0


def test_stray_splats_do_not_stretch_a_box() -> None:
    whole = labelled({1: ball((0.0, 0.0, 0.0), 0.3, 640)})
    stray = labelled({1: ball((5.0, 0.0, 0.0), 0.1, 5)})
    both = labelled({1: whole.splats, 2: stray.splats}).splats
    low, high = robust_box(both)
    clean_low, clean_high = robust_box(whole.splats)
    more = labelled({1: whole.splats, 2: ball((5.0, 0.0, 0.0), 0.1, 12)})
    low_of_more, high_of_more = robust_box(more.splats)  # 1.8 % of the opacity, all at one side
    assert torch.allclose(low_of_more, clean_low, atol=0.05)
    assert torch.allclose(high_of_more, clean_high, atol=0.05)
    assert torch.allclose(low, clean_low, atol=0.05) and torch.allclose(high, clean_high, atol=0.05)
    # Faint splats weigh as little as they show.
    both.params["opacity_logits"].data[640:] = -20.0
    low, high = robust_box(both)
    assert torch.allclose(low, clean_low, atol=1e-3)
    assert torch.allclose(high, clean_high, atol=1e-3)


def test_objects_come_one_by_one_in_their_order() -> None:
    objects = ball_in_ring()
    mixed = objects.rows(torch.randperm(len(objects), generator=torch.Generator().manual_seed(0)))
    parts = dict(by_object(mixed))
    assert list(parts) == [BALL, RING, WALL]
    for number, part in parts.items():
        assert torch.equal(part.splats.means, mixed.of(number).splats.means)
        assert set(part.labels.tolist()) == {number}


def test_objects_are_meant_by_number_or_name() -> None:
    objects = ball_in_ring()
    assert number_of(objects, "ring") == number_of(objects, "2") == RING
    with pytest.raises(ValueError, match="no splat belongs to it; there are 1 'ball', 2 'ring'"):
        number_of(objects, "5")
    with pytest.raises(ValueError, match="no object has this name; there are 1 'ball', 2 'ring'"):
        number_of(objects, "cup")
    with pytest.raises(ValueError, match="did you mean 'ring'"):
        number_of(objects, "Rings")
    many = labelled({number: objects.of(BALL).splats for number in range(1, 31)}, {})
    with pytest.raises(ValueError, match=r"there are 1, 2, .* 12 and 18 more \(`list` shows them"):
        number_of(many, "99")
    twins = labelled({1: objects.of(BALL).splats, 4: objects.of(RING).splats}, {1: "a", 4: "a"})
    with pytest.raises(ValueError, match=r"objects \[1, 4\] have this name"):
        number_of(twins, "a")


def test_a_box_means_what_lies_mostly_in_it() -> None:
    objects = ball_in_ring()
    assert objects_in_box(objects, (-0.4, -0.4, -0.4, 0.4, 0.4, 0.4)) == [BALL]
    assert objects_in_box(objects, (-0.4, -0.4, -0.4, 0.4, 0.4, 0.1)) == [BALL]
    assert objects_in_box(objects, (-0.4, -0.4, -0.4, 0.4, 0.4, -0.1)) == []
    assert objects_in_box(objects, (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0)) == [BALL, RING]


def test_a_pixel_means_what_is_in_front() -> None:
    objects, view = ball_in_ring(), camera((0.0, -2.6, 0.0))
    weights = RENDERER.lens(view, objects.splats).weights(1 / 255)

    def at(x: int, y: int) -> int:
        return object_at(weights, y * view.width + x, objects)

    assert at(32, 32) == RING  # its near side is before the ball
    assert at(32, 25) == BALL
    assert at(32, 12) == WALL
    above = camera((0.0, -0.1, 2.6))
    weights = RENDERER.lens(above, objects.splats).weights(1 / 255)
    assert at(32, 32) == BALL
    assert at(2, 60) == 0  # nothing is there


def test_new_numbers_are_free() -> None:
    assert next_numbers([3, 7, 300], 2) == (301, 302)
    assert next_numbers([], 1) == (1,)
