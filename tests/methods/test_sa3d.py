# SPDX-License-Identifier: Apache-2.0
"""SA3D: prompts, gradients and Adam against numbers worked out by hand; who answers prompts."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from diff_surfel_rasterization import BlendWeights
from iqgs.methods.protocol import FitView, SceneFacts
from iqgs.methods.sa3d.method import SA3D, click_in
from iqgs.methods.sa3d.params import SA3DParams
from iqgs.methods.sa3d.prompts import self_prompts
from iqgs.methods.sa3d.scores import ObjectScores, score_gradient
from iqgs.methods.sa3d.segmenters import MaskSegmenter, SAMSegmenter, make_segmenter
from scene.masks import MaskLayers, MaskPatches
from utils.errors import UserError

CPU = torch.device("cpu")


def weights_of(matrix: Tensor) -> BlendWeights:
    """Blending weights of a matrix [P, N] of them."""
    pixel, splat = matrix.nonzero(as_tuple=True)
    start = torch.zeros(len(matrix) + 1, dtype=torch.int64)
    start[1:] = torch.bincount(pixel, minlength=len(matrix)).cumsum(0)
    return BlendWeights(start, splat.int(), matrix[pixel, splat], matrix.shape[1])


def test_prompts_keep_away_from_one_another() -> None:
    """Ten pixels in a row, value = score - 1/2; area 9, half-width sqrt(9 / pi) / 2 = .85.

    First x = 1 (.40). The square takes x = 1 alone. Others lose .40 times their distance / 8:
    x = 2: .38 - .05 = .33, x = 5: .30 - .2 = .10, x = 9: .35 - .4 < 0. Second x = 2. Then x = 5
    loses .33 * 3/8 more: negative; x = 3: .36 - .1 - .33/8 = .219, which is third.
    """
    value = torch.tensor([[-0.3, 0.40, 0.38, 0.36, 0.1, 0.30, 0.1, 0.1, 0.1, 0.35]])
    found = self_prompts(value + 0.5, torch.zeros(1, 10), 3)
    assert found.tolist() == [[1, 0], [2, 0], [3, 0]]
    assert self_prompts(value + 0.5, torch.zeros(1, 10), 1).tolist() == [[1, 0]]
    # With depth: all but x = 5 lie one behind; at sqrt(1/64 + 1) from the first nothing else is
    # positive, and x = 5 at 1/2 is .30 - .2.
    depth = torch.ones(1, 10)
    depth[0, [1, 5]] = 0.0
    assert self_prompts(value + 0.5, depth, 3).tolist() == [[1, 0], [5, 0]]
    assert self_prompts(torch.full((2, 2), 0.5), torch.zeros(2, 2), 3).shape == (0, 2)


def test_the_gradient_of_a_mask() -> None:
    """Two pixels, one in the mask: -1 of the weights there, +.3 of those beside it."""
    weights = weights_of(torch.tensor([[0.5, 0.25, 0.0], [0.25, 0.5, 0.125], [0.9, 0.9, 0.9]]))
    wanted = torch.tensor([[True, False, True], [False, False, False]])
    known = torch.tensor([True, True, False])  # of the third pixel nobody said anything
    found = score_gradient(weights, wanted, known, 0.3)
    first = [-0.5 + 0.3 * 0.25, -0.25 + 0.3 * 0.5, 0.3 * 0.125]
    second = [0.3 * 0.75, 0.3 * 0.75, 0.3 * 0.125]
    torch.testing.assert_close(found, torch.tensor([first, second]))


def test_the_steps_are_those_of_adam() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(5, 2, 4, generator=generator)
    scores = ObjectScores(4, CPU)
    rows = scores.add(1)
    parameter = torch.nn.Parameter(torch.zeros(4))
    late = torch.nn.Parameter(torch.zeros(4))
    adams = [torch.optim.Adam([p], lr=1.0, eps=1e-15) for p in (parameter, late)]
    for number, gradient in enumerate(gradients):
        if number == 2:  # an object that is found later counts its own steps
            rows = torch.cat([rows, scores.add(1)])
        scores.step(rows, gradient[: len(rows)], 1.0)
        for tensor, adam, row in zip((parameter, late), adams, gradient, strict=True):
            tensor.grad = row.clone()
            if tensor is parameter or number >= 2:
                adam.step()
    torch.testing.assert_close(scores.score, torch.stack([parameter.detach(), late.detach()]))
    assert scores.steps.tolist() == [5, 3]


def test_splats_that_were_turned_down_stay_out() -> None:
    scores = ObjectScores(3, CPU)
    rows = scores.add(1)
    scores.score[0] = torch.tensor([2.0, -1.0, 0.0])
    scores.drop_doubtful()
    scores.step(rows, torch.full((1, 3), -1.0), 1.0)
    assert scores.score[0].tolist() == pytest.approx([3.0, -1.0, 0.0])
    weights = weights_of(torch.tensor([[0.5, 0.4, 0.1]]))
    assert scores.render(weights, rows).tolist() == [[1.5]]


def test_objects_that_are_one_are_counted_once() -> None:
    """Rows 0 and 2 share two of three splats, IoU 2/3; row 3 has none."""
    scores = ObjectScores(5, CPU)
    scores.add(4)
    scores.score = torch.tensor(
        [[3, 3, -1, -1, 0], [-1, 1, 2, -1, 0], [4, 4, 1, -1, 0], [-1, -1, -1, -1, 0]]
    ).float()
    scores.square = (scores.score != 0).float()
    assert scores.different().tolist() == [0, 1]
    labels, share = scores.owners()
    assert labels.tolist() == [1, 1, 2, 0, 0]
    assert share.tolist() == pytest.approx([1.0, 0.75, 1.0, 1.0, 0.0])  # the last was never seen


def test_a_click_is_in_the_middle_of_the_broad_part() -> None:
    region = torch.zeros(40, 60, dtype=torch.bool)
    region[10:31, 20:41] = True
    region[19:21, 41:60] = True  # a thin handle
    (x, y) = click_in(region)[0].tolist()
    assert 25 <= x <= 36 and 15 <= y <= 26


def masks() -> MaskPatches:
    """Pot 0..5 and its lid 0..1, wall 6..9, nothing at 10; of pixel 11 nobody knows."""
    rows = np.zeros((3, 1, 12), bool)
    rows[0, 0, :6], rows[1, 0, :2], rows[2, 0, 6:10] = True, True, True
    bits = np.array([np.packbits(row) for row in rows])
    ignored = np.packbits(np.arange(12) == 11)
    return MaskPatches.from_layers(MaskLayers.from_bits((1, 12), bits, ignored=ignored))


def points(*xs: int) -> Tensor:
    return torch.tensor([[x, 0] for x in xs])


def view_of(**fields: Any) -> FitView:
    return FitView(cast(Any, None), torch.zeros(1, 12, dtype=torch.int32), **fields)


def test_the_views_masks_answer_with_the_smallest_that_fits_most_points() -> None:
    segmenter = MaskSegmenter()
    segmenter.look_at(view_of(layers=masks))
    answers = {
        (1,): range(0, 2),
        (1, 4): range(0, 6),
        (1, 7, 8): range(6, 10),
        (3, 10, 11): range(0, 6),
    }
    for at, pixels in answers.items():
        mask = segmenter.mask(points(*at))
        assert mask is not None and mask[0].nonzero().flatten().tolist() == list(pixels)
    assert segmenter.mask(points(10)) is None and segmenter.mask(points(11)) is None


def test_sam_is_asked_as_its_library_wants() -> None:
    """RGB bytes once a view; all points at once, as (x, y) of ones; one mask back."""
    asked: list[Any] = []

    def predict(**arguments: Any) -> tuple[np.ndarray, None, None]:
        asked.append(arguments)
        return np.arange(12).reshape(1, 1, 12) > 8, None, None

    def set_image(pixels: np.ndarray, image_format: str) -> None:
        asked.append((pixels, image_format))

    segmenter = SAMSegmenter(SimpleNamespace(set_image=set_image, predict=predict), "SAM")
    image = torch.zeros(3, 1, 12)
    image[0] = 1.0
    segmenter.look_at(view_of(image=lambda: image))
    mask = segmenter.mask(points(3, 7))
    assert mask is not None and mask[0].nonzero().flatten().tolist() == [9, 10, 11]
    (pixels, kind), arguments = asked
    assert pixels.shape == (1, 12, 3) and pixels[0, 0].tolist() == [255, 0, 0] and kind == "RGB"
    assert arguments["point_coords"].tolist() == [[3, 0], [7, 0]]
    assert arguments["point_labels"].tolist() == [1, 1] and not arguments["multimask_output"]


def test_weights_of_sam_that_cannot_be_used_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = SA3DParams(sam_checkpoint=str(tmp_path / "sam.pth"))
    with pytest.raises(UserError, match="--sam_checkpoint .*sam.pth: no such file"):
        make_segmenter(params, CPU)
    (tmp_path / "sam.pth").write_bytes(b"no weights")
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(UserError, match="--sam_checkpoint needs segment-anything.*pip install"):
        make_segmenter(params, CPU)

    def broken(checkpoint: str) -> None:
        torch.load(checkpoint)

    library = SimpleNamespace(SamPredictor=None, sam_model_registry={"vit_h": broken})
    monkeypatch.setitem(sys.modules, "segment_anything", library)
    with pytest.raises(UserError, match="sam.pth holds no weights of SAM vit_h"):
        make_segmenter(params, CPU)


def two_things() -> tuple[Tensor, Tensor]:
    """Six pixels, four splats, one a pixel but for the middle: splats 0, 1 left, 2, 3 right."""
    matrix = torch.zeros(6, 4)
    matrix[[0, 1, 2], [0, 0, 1]] = 1.0
    matrix[[3, 4, 5], [2, 3, 3]] = 1.0
    return matrix, torch.tensor([[1, 1, 1, 2, 2, 2]], dtype=torch.int32)


def lens_of(matrix: Tensor) -> Any:
    depth = torch.ones(1, 1, len(matrix))
    return SimpleNamespace(
        gaussians=range(matrix.shape[1]),
        weights=lambda least: weights_of(matrix),
        render=lambda with_surface: SimpleNamespace(depth=depth),
    )


def views_with(numbers: list[list[int]], round: int = 0) -> list[FitView]:
    matrix, labels = two_things()
    maps = [torch.tensor([[0, *number]], dtype=torch.int32)[0][labels.long()] for number in numbers]
    return [
        FitView(
            lens_of(matrix),
            ids,
            layers=lambda ids=ids: MaskPatches.from_label_map(ids.numpy()),
            number=number,
            round=round,
        )
        for number, ids in enumerate(maps)
    ]


FACTS = SceneFacts(num_ids=2, densest_view=2, zero_is_background=True, instance_dim=0, seed=0)


def test_objects_are_found_again_whatever_their_numbers(caplog: pytest.LogCaptureFixture) -> None:
    """The same two things in three views under other numbers each time: two objects."""
    method = SA3D(SA3DParams(new_object_pixels=2))
    with caplog.at_level(logging.INFO):
        method.fit(views_with([[1, 2], [2, 1], [9, 4]]))
        method.fit(views_with([[1, 2], [2, 1], [9, 4]], round=1))
    assert "prompts are answered by the masks of the views" in caplog.text
    assert method.scores is not None and method.scores.steps.tolist() == [6, 6]
    other = SA3D(SA3DParams(new_object_pixels=2))
    other.load_state_dict(method.state_dict())
    for one in (method, other):
        one.finish([])
        assert one.splats.labels.tolist() == [1, 1, 2, 2]
        assert one.splats.confidence.tolist() == [1.0] * 4


def test_a_view_whose_answer_is_another_thing_is_skipped() -> None:
    """Where both things are under one mask, the IoU of each with it is 3/6 < .6."""
    method = SA3D(SA3DParams(new_object_pixels=2, least_agreement=0.6))
    method.fit(views_with([[1, 2], [7, 7]]))
    assert method.scores is not None and method.scores.steps.tolist() == [1, 1]
    method = SA3D(SA3DParams(new_object_pixels=2, least_agreement=0.5))
    method.fit(views_with([[1, 2], [7, 7]]))
    assert method.scores is not None and method.scores.steps.tolist() == [2, 2]


def test_what_is_too_small_or_mostly_claimed_starts_no_object() -> None:
    method = SA3D(SA3DParams(new_object_pixels=4))
    method.fit(views_with([[1, 2]]))
    assert method.scores is not None and len(method.scores) == 0
    method = SA3D(SA3DParams(new_object_pixels=2, least_agreement=1.0))
    method.fit(views_with([[5, 0], [7, 7], [0, 8]]))  # half of 7 is claimed: not less than half
    assert len(method.scores) == 2
    assert math.isclose(float(method.scores.score[1].max()), 1.0, rel_tol=1e-6)
