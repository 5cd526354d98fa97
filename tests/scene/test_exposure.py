# SPDX-License-Identifier: Apache-2.0
"""Colour transforms of views: identity first, exact gradients, a gauge, the file of the field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scene.exposure import Exposures
from utils.adam import Adam
from utils.errors import DataError, FormatError

CPU = torch.device("cpu")


def make_exposures(*names: str, spread: float = 0.2, seed: int = 0) -> Exposures:
    exposures = Exposures(names, CPU)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in exposures.parameters:
            parameter += spread * torch.randn(3, 4, generator=generator)
    return exposures


def picture(seed: int = 1) -> Tensor:
    return torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(seed))


def test_the_first_transform_changes_no_bit() -> None:
    exposures, image = Exposures(["a.png", "b.png"], CPU), picture()
    assert torch.equal(exposures.apply("b.png", image), image)
    assert float(exposures.penalty("a.png").detach()) == 0
    assert torch.equal(exposures.matrices(), torch.eye(3, 4).expand(2, 3, 4))


def test_a_colour_goes_through_its_own_views_matrix() -> None:
    exposures, image = make_exposures("a", "b"), picture()
    matrix = exposures.matrices()[1].detach().double().numpy()
    expected = np.empty((3, 5, 7))
    for y in range(5):
        for x in range(7):
            expected[:, y, x] = matrix @ np.append(image[:, y, x].double().numpy(), 1)
    found = exposures.apply("b", image).detach()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gradients_are_those_of_differences() -> None:
    exposures, image = make_exposures("a", "b"), picture()
    weights = picture(2)

    def loss() -> Tensor:
        return (exposures.apply("a", image).sin() * weights).sum() + 3 * exposures.penalty("a")

    loss().backward()
    first, other = exposures.parameters
    assert other.grad is None and first.grad is not None
    step = 1e-2
    for place in np.ndindex(3, 4):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                first[place] += sign * step
                ends.append(float(loss()))
                first[place] -= sign * step
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(first.grad[place]), rel=0.01)


def test_the_mean_view_is_the_identity_and_differences_of_views_stay() -> None:
    exposures = make_exposures("a", "b", "c")
    before = exposures.matrices().detach().clone()
    exposures.fix_gauge()
    after = exposures.matrices().detach()
    torch.testing.assert_close(after.mean(0), torch.eye(3, 4))
    torch.testing.assert_close(after[0] - after[2], before[0] - before[2])


def test_what_views_share_goes_to_the_scene_and_what_one_has_alone_is_found() -> None:
    """All photographs are 0.1 brighter than the scene at first, one of them 0.3."""
    exposures, names, image = Exposures(["a", "b", "c", "d"], CPU), "abcd", picture()
    scene = torch.zeros(1, requires_grad=True)
    groups = [{"params": exposures.parameters}, {"params": [scene]}]
    optimizer = Adam(groups, lr=0.01, eps=1e-15)
    for step in range(3000):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.02 * 0.998**step
        name = names[step % 4]
        taken = image + (0.3 if name == "a" else 0.1)
        before = exposures.matrices().detach().clone()
        (exposures.apply(name, image + scene) - taken).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        moved = (exposures.matrices().detach() != before).flatten(1).any(1)
        assert [other for other, yes in zip(names, moved, strict=True) if yes] == [name]
        exposures.fix_gauge()
    with torch.no_grad():
        brighter = [float((exposures.apply(name, image) - image).mean()) for name in names]
    assert sum(brighter) == pytest.approx(0, abs=1e-5)
    assert brighter[0] - brighter[1] == pytest.approx(0.2, abs=0.02)
    assert float(scene.detach()) == pytest.approx(0.15, abs=0.02)


def test_the_file_holds_what_programs_of_3dgs_apply(tmp_path: Path) -> None:
    """They take a colour as a row: c M[:3, :3] + M[:3, 3]."""
    exposures, image = make_exposures("a.png", "sub/b.png"), picture()
    path = tmp_path / "exposure.json"
    exposures.save(path)
    table = json.loads(path.read_text())
    assert list(table) == ["a.png", "sub/b.png"]
    matrix = np.array(table["sub/b.png"])
    assert matrix.shape == (3, 4)
    rows = image.permute(1, 2, 0).numpy() @ matrix[:3, :3] + matrix[:3, 3]
    ours = exposures.apply("sub/b.png", image).detach().permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, rows, atol=1e-6)
    again = Exposures.load(path, CPU)
    assert again.names == exposures.names
    torch.testing.assert_close(again.matrices(), exposures.matrices(), atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    "text", ['{"a": [[1, 0], [0, 1]]}', '{"a": 3}', '{"a": [["x"]]}', "{}", "["]
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "exposure.json"
    path.write_text(text)
    with pytest.raises(FormatError, match="exposure.json"):
        Exposures.load(path, CPU)


def test_state_goes_round_and_that_of_other_views_is_refused() -> None:
    exposures, other = make_exposures("a", "b"), Exposures(["a", "b"], CPU)
    other.load_state_dict(exposures.state_dict())
    assert torch.equal(other.matrices(), exposures.matrices())
    assert torch.equal(other.parameters[1], exposures.parameters[1])
    with pytest.raises(DataError, match="other training views"):
        Exposures(["b", "a"], CPU).load_state_dict(exposures.state_dict())
    with pytest.raises(ValueError, match="'c' has no exposure"):
        exposures.apply("c", picture())
