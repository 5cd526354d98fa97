# SPDX-License-Identifier: Apache-2.0
"""Splats learn opacities for their instances: kept with the run, and never seen in its colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from arguments import RunConfig
from gaussian_renderer import splat
from iqgs.engine.opening import open_run
from iqgs.engine.training import train
from scene.parameters import INSTANCE_OPACITY
from utils.ply import read_ply

MakeConfig = Callable[..., RunConfig]
SETTINGS = {"instance_iterations": 80, "correction_iou": 0.0}  # no doubts


@pytest.fixture
def learned(make_config: MakeConfig, tmp_path: Path) -> Path:
    assert train(make_config("run", lr_instance_opacity=0.1, **SETTINGS)) == 0
    return tmp_path / "run"


def test_colours_are_those_of_a_run_without(make_config: MakeConfig, learned: Path) -> None:
    assert train(make_config("without", lr_instance_opacity=0.0, **SETTINGS)) == 0
    ours, theirs = open_run(learned), open_run(learned.with_name("without"))
    assert INSTANCE_OPACITY not in theirs.gaussians.params
    for name, values in theirs.gaussians.params.items():
        if name != "instance":
            assert torch.equal(values, ours.gaussians.params[name]), name
    params = {name: values.detach() for name, values in ours.gaussians.params.items()}
    shift = params[INSTANCE_OPACITY] - params["opacity_logits"]
    assert 0.05 < float(shift.abs().max()) < 0.1 * 80  # at most about the rate a step
    camera = ours.cameras.train[0]
    color = ours.lens(camera).render(with_surface=False).color
    assert torch.equal(color, theirs.lens(camera).render(with_surface=False).color)


def test_instances_are_rendered_with_them_and_colours_are_not(learned: Path) -> None:
    run = open_run(learned)
    camera = run.cameras.test[0]
    lens, values = run.lens(camera), torch.ones(len(run.gaussians), 1)
    again = run.lens(camera)
    again.render(with_surface=True)  # an image that was made before changes nothing
    own = splat(camera, run.gaussians.for_instances(), values)
    plain = splat(camera, run.gaussians.for_colors(), values)
    assert float((own - plain).abs().max()) > 1e-3
    for one in (lens, again):
        torch.testing.assert_close(one.alpha, own)
        torch.testing.assert_close(one.splat(values), own)
        torch.testing.assert_close(one.image.alpha, plain)
        torch.testing.assert_close(one.by_color.splat(values), plain)
        attribute = splat(camera, run.gaussians.for_instances(), run.gaussians.instance)
        torch.testing.assert_close(one.features, attribute)
    weights, bare = lens.weights(0.0), run.renderer.lens(camera, run.gaussians.for_colors())
    assert torch.equal(weights.weight, bare.weights(0.0).weight)


def test_the_file_has_them_and_learning_anew_begins_without(
    make_config: MakeConfig, learned: Path
) -> None:
    path = learned / "point_cloud" / "iteration_100" / "point_cloud.ply"
    columns = read_ply(path)
    run = open_run(learned)
    logits = run.gaussians.params[INSTANCE_OPACITY].detach()[:, 0].numpy()
    assert columns["obj_opacity"].tolist() == logits.tolist()
    viewer = read_ply(path.with_name("point_cloud_viewer.ply"))
    assert "obj_opacity" not in viewer
    again = make_config("again", start_ply=str(path), method="gaussian-grouping")
    assert train(again) == 0
    assert INSTANCE_OPACITY not in open_run(learned.with_name("again")).gaussians.params


def test_whole_views_learn_none(make_config: MakeConfig, learned: Path) -> None:
    """They would have to be listed pixel by pixel, all at once."""
    settings = {"lr_instance_opacity": 0.1, "pixels_per_step": 0, "instance_iterations": 4}
    assert train(make_config("whole", **settings)) == 0
    assert INSTANCE_OPACITY not in open_run(learned.with_name("whole")).gaussians.params
