# SPDX-License-Identifier: Apache-2.0
"""What forks of the 2DGS rasterizer added to its call, and how their clients unpack the results."""

from __future__ import annotations

import copy
import importlib
import logging
import pickle

import numpy as np
import pytest
import torch

import diff_surfel_rasterization
from diff_surfel_rasterization import (
    GaussianRasterizationSettings,
)
from diff_surfel_rasterization.compat import extras, raster_settings_from
from tests.rasterizer.compat_cases import (
    EMPTY,
    HEIGHT,
    WIDTH,
    N,
    call,
    expected_features,
    rasterizer,
    scene,
    settings_of,
    training_camera,
)
from tests.rasterizer.oracle import camera_splats, pixel_weights
from tests.rasterizer.scenes import random_surfels


@pytest.fixture(autouse=True)
def forget_warnings():
    extras._warn.cache_clear()


# -- one feature tensor under four names --------------------------------------------------------


def test_features_come_last_by_the_plain_name():
    surfels = scene()
    color, radii, allmap = call(surfels)
    with_features = call(surfels, features=surfels.features)
    assert len(with_features) == 4
    for found, want in zip(with_features, (color, radii, allmap), strict=False):
        torch.testing.assert_close(found, want)
    torch.testing.assert_close(with_features[3], expected_features(surfels))


def test_language_features_come_second():
    surfels = scene()
    color, radii, allmap = call(surfels)
    found = call(surfels, language_feature_precomp=surfels.features)
    torch.testing.assert_close(found, (color, expected_features(surfels), radii, allmap))


def test_extra_attrs_come_fourth_with_the_pixels_of_each_splat():
    surfels = scene()
    color, radii, allmap = call(surfels)
    found = call(surfels, extra_attrs=surfels.features)
    torch.testing.assert_close(found[:4], (color, radii, allmap, expected_features(surfels)))
    pairs = {tuple(pair) for pair in found[4].tolist()}
    assert found[4].dtype == torch.int32 and len(pairs) == len(found[4])
    settings = raster_settings_from(settings_of(training_camera(dtype=torch.float64)))
    splats = camera_splats(surfels, settings)
    expected = {
        (int(splats.order[i]), y * WIDTH + x)
        for y in range(HEIGHT)
        for x in range(WIDTH)
        for i, weight, _, _ in pixel_weights(splats, settings, (x, y))
        if weight > 0.1
    }
    assert len(expected) > 100 and pairs == expected


def test_semantics_lie_in_allmap_before_the_planes_distances():
    surfels = scene()
    color, radii, allmap = call(surfels)
    found = call(surfels, semantics=surfels.features)
    assert len(found) == 3 and found[2].shape == (7 + 5 + 1, HEIGHT, WIDTH)
    torch.testing.assert_close(found[:2], (color, radii))
    torch.testing.assert_close(found[2][:7], allmap)
    torch.testing.assert_close(found[2][7:12], expected_features(surfels))
    settings = raster_settings_from(settings_of(training_camera(dtype=torch.float64)))
    splats = camera_splats(surfels, settings)
    # In the camera frame a plane through p with the normal n has <n, p> = -d + <n, -t>.
    view = settings.world_to_view.numpy()
    image = np.zeros((HEIGHT, WIDTH))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            for i, weight, _, _ in pixel_weights(splats, settings, (x, y)):
                normal = splats.axes[i][:, 2]
                normal = -normal if normal @ splats.center[i] > 0 else normal
                image[y, x] += weight * (normal @ (splats.center[i] - view[:3, 3]))
    np.testing.assert_allclose(found[2][12].numpy(), image, atol=1e-9)


@pytest.mark.parametrize("detach", [False, True])
def test_semantics_move_the_splats_unless_detached(detach):
    surfels = random_surfels(N, seed=81, log_scale=(-2.5, -1), channels=5)
    raster = rasterizer(detach_sem=detach)
    allmap = call(surfels, raster, semantics=surfels.features)[2]
    weight = torch.linspace(-1, 1, allmap[7:12].numel(), dtype=torch.float64)
    (allmap[7:12].flatten() * weight).sum().backward()
    assert float(surfels.features.grad.abs().max()) > 0
    moved = 0.0 if surfels.means.grad is None else float(surfels.means.grad.abs().max())
    assert (moved == 0) == detach
    for channel in (12, 0):  # the planes' distances and the depth move them all the same
        surfels.means.grad = None
        call(surfels, raster, semantics=surfels.features)[2][channel].sum().backward()
        assert float(surfels.means.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("name", "length"),
    [("features", 4), ("language_feature_precomp", 4), ("extra_attrs", 5), ("semantics", 3)],
)
@pytest.mark.parametrize("nothing", [None, EMPTY])
def test_the_keyword_decides_the_tuple_even_without_a_tensor(name, length, nothing):
    surfels = scene()
    found = call(surfels, **{name: nothing})
    assert len(found) == length
    torch.testing.assert_close(found[0], call(surfels)[0])
    if name == "extra_attrs":
        assert found[3].shape == (0, HEIGHT, WIDTH)


def test_features_learn_and_move_the_splats():
    surfels = random_surfels(N, seed=82, log_scale=(-2.5, -1), channels=5, dtype=torch.float32)
    *_, image = call(surfels, features=surfels.features)
    image.square().sum().backward()
    assert float(surfels.features.grad.abs().max()) > 0 and float(surfels.means.grad.norm()) > 0


def test_only_one_feature_tensor_and_only_of_rows_of_the_splats():
    surfels = scene()
    with pytest.raises(ValueError, match="features and semantics are names for one thing"):
        call(surfels, features=surfels.features, semantics=surfels.features)
    with pytest.raises(ValueError, match=r"extra_attrs must be .30, C., got .29, 5."):
        call(surfels, extra_attrs=surfels.features[1:])
    transforms = {"scales": None, "rotations": None, "cov3D_precomp": torch.zeros(N, 9).double()}
    for name in ("extra_attrs", "semantics"):
        with pytest.raises(ValueError, match=f"{name} needs the splats themselves; give scales"):
            call(surfels, **transforms, **{name: surfels.features})


# -- settings and arguments of forks ------------------------------------------------------------


def fork_settings(**more) -> GaussianRasterizationSettings:
    return GaussianRasterizationSettings(**{**settings_of(training_camera())._asdict(), **more})


@pytest.mark.parametrize(
    "harmless",
    [
        {"antialiasing": False},
        {"record_transmittance": False},
        {"pp_shiftx": 0, "pp_shifty": torch.zeros(())},
        {"projmatrix_raw": None, "error_img": EMPTY},
    ],
)
def test_settings_that_change_nothing_are_taken_with_one_warning_each(harmless, caplog):
    plain = settings_of(training_camera())
    with caplog.at_level(logging.WARNING):
        assert fork_settings(**harmless)._asdict().keys() == plain._asdict().keys()
        fork_settings(**harmless)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(harmless)
    assert all(f"{name} is taken and changes nothing" in " ".join(said) for name in harmless)


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("antialiasing", True, "pass antialiasing=False"),
        ("kernel_size", 0.0, "low-pass filter is that of 2DGS"),
        ("record_transmittance", True, "ask blend_weights"),
        ("pp_shifty", 0.1, "put the principal point into projmatrix"),
        ("projmatrix_raw", torch.eye(4), "no gradients of the pose"),
        ("error_img", torch.ones(1, 4, 4), "images are not weighted"),
    ],
)
def test_settings_that_would_change_the_result_are_refused_by_name(name, value, advice):
    with pytest.raises(ValueError, match=f"{name} cannot be followed: .*{advice}"):
        fork_settings(**{name: value})


def test_pose_gradients_are_refused_and_unknown_names_are_named(caplog):
    surfels = scene()
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(call(surfels, theta=None, rho=None), call(surfels))
    assert [r.getMessage() for r in caplog.records if "theta" in r.getMessage()]
    for name in ("theta", "rho"):
        with pytest.raises(ValueError, match=f"{name} cannot be followed: .*of the pose"):
            call(surfels, **{name: torch.zeros(3)})
    with pytest.raises(TypeError, match="GaussianRasterizer: unknown argument 'offsets'"):
        call(surfels, offsets=None)
    with pytest.raises(TypeError, match="RasterizationSettings: unknown argument 'beta'"):
        fork_settings(beta=1.0)


def test_settings_stay_a_tuple_that_can_be_copied():
    settings = fork_settings(detach_sem=True)
    assert settings._replace(sh_degree=2).sh_degree == 2 and settings[0] == settings.image_height
    for twin in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings)):
        assert type(twin) is GaussianRasterizationSettings and twin.detach_sem
        assert torch.equal(twin.viewmatrix, settings.viewmatrix)
    first_ten = list(settings)[:10]
    assert GaussianRasterizationSettings(*first_ten).debug is False


# -- what installers look at --------------------------------------------------------------------


def test_the_version_is_that_of_the_installed_package():
    assert importlib.metadata.version("diff_surfel_rasterization") == (
        diff_surfel_rasterization.__version__
    )


def test_the_probe_for_the_compiled_part_tells_the_truth(monkeypatch):
    name = "diff_surfel_rasterization._C"
    if "cpu" in diff_surfel_rasterization.available_backends():
        module = importlib.import_module(name)
        assert not hasattr(module, "rasterize_gaussians")
        with pytest.raises(AttributeError, match="has no 'mark_visible': .* call Gaussian"):
            module.mark_visible  # noqa: B018
    from diff_surfel_rasterization import backends

    monkeypatch.setattr(backends, "backend_problem", lambda backend: "it is not built; build it")
    monkeypatch.delitem(importlib.sys.modules, name, raising=False)
    with pytest.raises(ImportError, match="_C: it is not built; build it"):
        importlib.import_module(name)
