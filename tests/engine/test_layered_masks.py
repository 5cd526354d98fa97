# SPDX-License-Identifier: Apache-2.0
"""Whole runs on masks that overlap: three spheres, of which two are also one thing together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from iqgs.engine.opening import open_run
from iqgs.engine.run import Run, shown_by
from iqgs.engine.settings import resolve_run
from iqgs.engine.training import train
from scene.masks import FORMATS, MaskContent, MaskLayers

from .blobs import IDS, SPHERES, write_blobs
from .conftest import SHORT

TOGETHER = IDS[:2]
VIEWS = 17


@pytest.fixture(scope="module")
def learn(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """learn(method, steps) -> the opened run on the layered scene; the splats are made once."""
    scene = write_blobs(tmp_path_factory.mktemp("layers") / "scene", views=VIEWS)
    (scene / "layers").mkdir()
    for path in sorted((scene / "object_mask").iterdir()):
        ids = np.array(Image.open(path))
        masks = [ids == number for number in IDS] + [np.isin(ids, TOGETHER)]
        bits = np.array([np.packbits(mask) for mask in masks if mask.any()])
        layers = MaskLayers.from_bits(ids.shape, bits)
        name = scene / "layers" / f"{path.stem}.npz"
        FORMATS["id_npy"].write(name, MaskContent.of_layers(layers, "view"))
    growing = {"iterations": 500, "densify_until_iter": 300, "splat_cap": 800, "sh_interval": 150}
    base = {**SHORT, "source_path": str(scene)}
    splats = tmp_path_factory.mktemp("layers") / "splats"
    assert train(resolve_run({**base, **growing, "model_path": str(splats), "no_masks": True})) == 0
    ply = splats / "point_cloud/iteration_500/point_cloud.ply"

    def run(method: str, steps: int = 200) -> Run:
        folder = tmp_path_factory.mktemp(method) / "run"
        given = {"method": method, "model_path": str(folder), "start_ply": str(ply)}
        given |= {"instance_iterations": steps, "pixels_per_step": 512, "object_path": "layers"}
        assert train(resolve_run({**base, **given})) == 0
        return open_run(folder)

    return run


def spheres_of(run: Run) -> list[torch.Tensor]:
    """Which splats [N] bool that training views show lie on each sphere."""
    means, spheres = run.gaussians.means.detach(), torch.tensor(SPHERES)
    away = ((means[:, None] - spheres[:, :3]).norm(dim=2) - spheres[:, 3]).abs()
    nearest = away.argmin(dim=1)
    shown = shown_by(run, nearest).seen & (away.amin(dim=1) < 0.1)
    return [shown & (nearest == i) for i in range(len(SPHERES))]


def majorities(run: Run) -> list[int]:
    """The label of most splats that lie on each sphere."""
    labels = run.learning_method.label_splats(run.gaussians).labels
    return [int(torch.mode(labels[on]).values) for on in spheres_of(run)]


def test_saga_answers_at_the_scale_that_is_asked_for(learn: Callable[..., Run]) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, of requirements-dev.txt, is missing")
    run = learn("saga", 500)
    found = {}
    for scale in (0.0, 1.0):
        method = run.learning_method
        method.params = dataclasses.replace(method.params, answer_scale=scale)
        method.finish([run.lens(run.cameras.train[0])])
        found[scale] = majorities(run)
    assert len(set(found[0.0])) == 3
    assert found[1.0][0] == found[1.0][1] != found[1.0][2]


def test_omniseg3d_keeps_what_shares_a_mask_nearer(learn: Callable[..., Run]) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, of requirements-dev.txt, is missing")
    run = learn("omniseg3d")
    unit = normalize(run.gaussians.instance.detach(), dim=1)
    one, two, other = (normalize(unit[on].mean(dim=0), dim=0) for on in spheres_of(run))
    alone = max(float(one @ other), float(two @ other))
    assert 0.9 > one @ two > alone + 0.5


def test_sa3d_finds_what_the_smallest_masks_show(learn: Callable[..., Run]) -> None:
    labels = majorities(learn("sa3d"))
    assert len(set(labels)) == 3 and 0 not in labels
