# SPDX-License-Identifier: Apache-2.0
"""Runs with exposures, warm-up, relocation and what goes with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arguments import RunConfig
from arguments.rendering import RenderParams
from iqgs.engine.opening import begin_run, open_run
from iqgs.engine.pictures.views import render_run
from iqgs.engine.settings import going_on_settings, resolve_run, scene_of
from iqgs.engine.stages.reconstruction import Reconstruction, learning_rates, mean_of
from iqgs.engine.training import train
from utils.checkpoints import load_checkpoint
from utils.errors import UserError

from .blobs import write_blobs
from .conftest import SHORT
from .test_training import assert_same, assert_same_state

MakeConfig = Callable[..., RunConfig]
RELOCATION = {"densify_rule": "relocation", "densify_from_iter": 0}


@pytest.mark.parametrize(("route", "stop_at"), [("two-stage", 12), ("two-stage", 27), ("joint", 9)])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    make_config: MakeConfig, tmp_path: Path, route: str, stop_at: int
) -> None:
    last = 40 if route == "two-stage" else 20
    changes = {"exposure": True, "warmup_steps": 5, "random_background": True, **RELOCATION}
    changes |= {"opacity_cull": 0.08, "route": route}  # so that splats do get relocated
    assert train(make_config("whole", checkpoint_iterations=[stop_at], **changes)) == 0
    checkpoint = str(tmp_path / "whole" / f"chkpnt{stop_at}.pth")
    typed = {"start_checkpoint": checkpoint, "model_path": str(tmp_path / "second")}
    assert train(resolve_run(going_on_settings(typed), typed)) == 0
    assert_same_state(tmp_path / "whole", tmp_path / "second", last)
    states = [load_checkpoint(tmp_path / n / f"chkpnt{last}.pth") for n in ("whole", "second")]
    assert_same(states[0]["exposures"], states[1]["exposures"])
    assert bool(states[0]["exposures"]["differences"].any())
    for place in ("exposure.json", f"point_cloud/iteration_{last}/exposure.json"):
        assert (tmp_path / "whole" / place).read_bytes() == (
            tmp_path / "second" / place
        ).read_bytes()


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with exposures of a scene whose cameras did not agree: every second photograph that is
    trained on has 0.6 of its light."""
    folder = tmp_path_factory.mktemp("metered")
    scene = write_blobs(folder / "scene", views=17)
    settings = {**SHORT, "source_path": str(scene), "model_path": str(folder / "run")}
    settings |= {"no_masks": True, "iterations": 500, "densify_until_iter": 300, "splat_cap": 600}
    settings |= {"sh_interval": 200, "normal_from_iter": 400}
    views = [view.name for view in scene_of(resolve_run(settings)).train]
    for name in views[::2]:
        path = scene / "images" / name
        dark = 0.6 * np.asarray(Image.open(path), np.float64)
        Image.fromarray(dark.round().astype(np.uint8)).save(path)
    for name, exposure in (("run", True), ("plain", False)):
        settings |= {"model_path": str(folder / name), "exposure": exposure}
        assert train(resolve_run(settings)) == 0
    return folder


def test_exposures_find_what_cameras_metered(metered: Path) -> None:
    table = json.loads((metered / "run" / "exposure.json").read_text())
    names = json.loads((metered / "run" / "split.json").read_text())["train"]
    assert list(table) == names
    matrices = np.array([table[name] for name in names])
    np.testing.assert_allclose(matrices.mean(0), np.eye(3, 4), atol=1e-5)
    light = (matrices[:, :, :3].sum(axis=1) + matrices[:, :, 3]).mean(axis=1)  # of white
    assert light[::2].mean() / light[1::2].mean() == pytest.approx(0.6, abs=0.08)
    assert not (metered / "plain" / "exposure.json").exists()


def test_pictures_have_their_cameras_exposure_where_that_is_asked_for(metered: Path) -> None:
    def error(folder: Path, exposure: bool) -> float:
        params = RenderParams(model_path=str(folder), exposure=exposure, skip_test=True, quiet=True)
        render_run(open_run(folder), params)
        place, errors = folder / "train" / "ours_500", []
        for path in sorted((place / "gt").iterdir()):
            pair = (Image.open(place / kind / path.name) for kind in ("gt", "renders"))
            photo, shown = (np.asarray(picture, np.float64) for picture in pair)
            errors.append(np.abs(photo - shown).mean())
        return float(np.mean(errors))

    plain, shown, taken = (
        error(metered / "plain", False),
        error(metered / "run", False),
        error(metered / "run", True),
    )
    assert taken < 0.7 * plain and taken < 0.7 * shown
    with pytest.raises(UserError, match=r"--exposure: .* was trained without it"):
        error(metered / "plain", True)


def test_held_out_views_are_shown_as_they_are_rendered(metered: Path) -> None:
    folder = metered / "run"
    pictures = []
    for exposure in (False, True):
        params = RenderParams(
            model_path=str(folder), exposure=exposure, skip_train=True, quiet=True
        )
        render_run(open_run(folder), params)
        files = sorted((folder / "test" / "ours_500" / "renders").iterdir())
        pictures.append([path.read_bytes() for path in files])
    assert pictures[0] and pictures[0] == pictures[1]


def test_an_overwritten_run_leaves_no_exposures(make_config: MakeConfig, tmp_path: Path) -> None:
    assert train(make_config("run", iterations=3, no_masks=True, exposure=True)) == 0
    assert (tmp_path / "run" / "exposure.json").exists()
    assert train(make_config("run", iterations=3, no_masks=True, overwrite=True)) == 0
    assert not list((tmp_path / "run").rglob("exposure.json"))


def test_exposures_come_through_the_stage_of_instances(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    assert train(make_config("run", exposure=True)) == 0
    saved = open_run(tmp_path / "run").exposures
    assert saved is not None
    first = load_checkpoint(tmp_path / "run" / "chkpnt20.pth")["exposures"]["differences"]
    torch.testing.assert_close(saved.matrices(), first + torch.eye(3, 4), atol=1e-6, rtol=0)


def test_rates_rise_over_the_warm_up() -> None:
    settings = {"preset": "default", "iterations": 1000, "warmup_steps": 100}
    warm = resolve_run(settings).optimization
    cold = resolve_run({**settings, "warmup_steps": 0}).optimization
    for step, factor in ((0, 0.0), (25, 0.25), (100, 1.0), (700, 1.0)):
        whole = learning_rates(cold, 2.0, step)
        for name, rate in learning_rates(warm, 2.0, step).items():
            assert rate == pytest.approx(whole[name] * (1 if name == "exposure" else factor)), name


def test_relocation_reaches_its_cap_and_brings_its_own_settings(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("run", no_masks=True, densify_until_iter=15, **RELOCATION)
    options = config.optimization
    assert (options.opacity_reg, options.scale_reg, options.opacity_cull) == (0.01, 0.01, 0.005)
    assert make_config("other", densify_rule="budget").optimization.opacity_reg == 0
    assert make_config("typed", opacity_reg=0.5, **RELOCATION).optimization.opacity_reg == 0.5
    assert train(config) == 0
    assert len(open_run(tmp_path / "run").gaussians) == SHORT["splat_cap"]


def test_regularisers_look_at_the_splats_of_the_view_and_have_no_units(
    make_config: MakeConfig,
) -> None:
    config = make_config("run", no_masks=True, opacity_reg=0.01, scale_reg=0.02)
    run = begin_run(config, Path(config.model.model_path), torch.device("cpu"))
    model = run.gaussians
    model.params["means"].data[::3] += 100.0  # where no camera looks
    with torch.no_grad():
        model.params["opacity_logits"] += torch.linspace(-1, 1, len(model))[:, None]
    stage = Reconstruction(config, run.scene, model, run.renderer)
    (view,) = stage.draw(1)
    step = stage.loss(1, view)
    shown = [i for i, radius in enumerate(step.carried.rendered.radii.tolist()) if radius > 0]
    assert 0 < len(shown) <= 2 * len(model) // 3
    opacities = [float(model.opacities[i].detach()) for i in shown]
    scales = [float(scale) / run.scene.extent for i in shown for scale in model.scales[i].detach()]
    assert float(step.terms["opacity"].detach()) == pytest.approx(np.mean(opacities), rel=1e-5)
    assert float(step.terms["scale"].detach()) == pytest.approx(np.mean(scales), rel=1e-5)
    assert (stage.weights()["opacity"], stage.weights()["scale"]) == (0.01, 0.02)
    (step.terms["opacity"] + step.terms["scale"]).backward()
    for name in ("opacity_logits", "log_scales"):
        gradient = model.params[name].grad
        assert gradient is not None and not bool(gradient[::3].any())


def test_a_view_of_nothing_has_no_regulariser() -> None:
    values = torch.ones(3, requires_grad=True)
    assert float(mean_of(values, torch.zeros(3, dtype=torch.bool)).detach()) == 0


def test_a_random_background_is_another_one_in_every_step(make_config: MakeConfig) -> None:
    """Where nothing is, the picture is the background; a step that is taken again has its own."""
    config = make_config("run", no_masks=True, random_background=True)
    run = begin_run(config, Path(config.model.model_path), torch.device("cpu"))
    stage = Reconstruction(config, run.scene, run.gaussians, run.renderer)
    view, seen = run.scene.train[0], []
    for iteration in (1, 2, 1):
        rendered = stage.render_view(view, iteration)
        empty = rendered.color.detach()[:, rendered.alpha.detach()[0] == 0]
        assert empty.shape[1] > 100 and bool((empty == empty[:, :1]).all())
        seen.append(empty[:, 0])
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    plain = run.renderer.render(view.camera, run.gaussians, with_surface=False)
    assert float(plain.color.detach()[:, plain.alpha.detach()[0] == 0].abs().max()) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"warmup_steps": -1},
        {"exposure_lr_init": 0.0},
        {"exposure_lr_final": -0.1},
        {"lambda_exposure": -1.0},
        {"opacity_reg": -0.1},
        {"scale_reg": -0.1},
        {"noise_lr": -1.0},
        {"densify_rule": "mcmc"},
        {"exposure": True, "start_ply": "a.ply"},
    ],
)
def test_a_bad_value_is_one_sentence_that_names_the_flag(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=rf"^--{next(iter(wrong))} must be [^\n]*, got [^\n]*$"):
        resolve_run(wrong)
