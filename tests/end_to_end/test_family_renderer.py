# SPDX-License-Identifier: Apache-2.0
"""Training through the compatible class, by a renderer and losses as code of the family writes
them, on the ray-cast room: as good as by our own renderer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from arguments.synthetic import SyntheticParams
from diff_surfel_rasterization import (
    GaussianRasterizationSettings,
    GaussianRasterizer,
    RasterOutput,
)
from gaussian_renderer import RenderOutput, raster_settings
from iqgs.engine.opening import begin_run
from iqgs.engine.settings import resolve_run
from iqgs.engine.stages.protocol import take_step
from iqgs.engine.stages.reconstruction import Reconstruction, photometric_terms
from scene.cameras import Camera
from scene.synthetic.writer import make_scene
from scene.view import View
from utils.image_quality import psnr

STEPS = 300
SETTINGS = {
    "iterations": STEPS,
    "lr_final": 0.1,
    "opacity_cull": 0.02,
    "eval": True,
    "sh_degree": 1,
    "sh_interval": 100,
    "densify_rule": "threshold",
    "densify_from_iter": 50,
    "densify_until_iter": 250,
    "densification_interval": 50,
    "normal_from_iter": 1,
    "lambda_normal": 0.05,
    "dist_from_iter": 1,
    "lambda_dist": 10.0,
    "background_seeds": 0,
    "threads": 1,
    "quiet": True,
}


def family_settings(
    camera: Camera, background: Tensor, degree: int
) -> GaussianRasterizationSettings:
    """The view as the family lays it out."""
    view, far, near = camera.world_to_view.float(), 100.0, 0.01
    projection = torch.zeros(4, 4)
    projection[0, 0], projection[1, 1] = (
        2 * camera.fx / camera.width,
        2 * camera.fy / camera.height,
    )
    projection[0, 2] = 2 * camera.cx / camera.width - 1
    projection[1, 2] = 2 * camera.cy / camera.height - 1
    projection[2, 2], projection[2, 3] = far / (far - near), -far * near / (far - near)
    projection[3, 2] = 1.0
    return GaussianRasterizationSettings(
        image_height=camera.height,
        image_width=camera.width,
        tanfovx=camera.width / camera.fx / 2,
        tanfovy=camera.height / camera.fy / 2,
        bg=background,
        scale_modifier=1.0,
        viewmatrix=view.T,
        projmatrix=view.T @ projection.T,
        sh_degree=degree,
        campos=torch.linalg.inv(view)[:3, 3],
        prefiltered=False,
        debug=False,
    )


def depth_to_normal(camera: Camera, depth: Tensor) -> Tensor:
    """Normals [3, H, W] in the world frame from a depth image, a border of zeros."""
    y, x = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    rays = torch.stack(
        [(x + 0.5 - camera.cx) / camera.fx, (y + 0.5 - camera.cy) / camera.fy, torch.ones_like(x)],
        dim=-1,
    ).float()
    points = rays * depth[0, :, :, None]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    across = points[1:-1, 2:] - points[1:-1, :-2]
    inner = F.normalize(torch.cross(down, across, dim=-1), dim=-1)
    inner = inner @ camera.world_to_view[:3, :3].float()
    return F.pad(inner, (0, 0, 1, 1, 1, 1)).permute(2, 0, 1)


class FamilyReconstruction(Reconstruction):
    """The same stage, rendered the family's way: it divides by alpha where alpha may be zero."""

    empty_pixels = 0

    def render_view(self, view: View, iteration: int) -> RenderOutput:
        model, camera = self.gaussians, view.camera
        screen = torch.zeros_like(model.means, requires_grad=True)
        rasterizer = GaussianRasterizer(
            family_settings(camera, self.renderer.background, model.active_sh_degree)
        )
        color, radii, allmap = rasterizer(
            means3D=model.means,
            means2D=screen,
            shs=model.sh,
            colors_precomp=None,
            opacities=model.opacities,
            scales=model.scales,
            rotations=model.rotations,
            cov3D_precomp=None,
        )
        alpha = allmap[1:2]
        self.empty_pixels += int((alpha == 0).sum())
        settings = raster_settings(camera, self.renderer.background, model.active_sh_degree)
        raw = RasterOutput(
            color=color,
            features=color[:0],
            alpha=alpha,
            depth=allmap[0:1],
            median_depth=allmap[5:6],
            normal=allmap[2:5],
            distortion=allmap[6:7],
            radii=radii,
        )
        return RenderOutput(camera, raw, settings, screen)

    def terms(self, rendered: RenderOutput, view: View, iteration: int) -> dict[str, Tensor]:
        terms = photometric_terms(rendered, view.image_on("cpu"))
        terms["distortion"] = rendered.distortion.mean()
        if self.uses_normals(iteration):
            camera, raw = view.camera, rendered.raw
            normal = raw.normal.permute(1, 2, 0) @ camera.world_to_view[:3, :3].float()
            expected = torch.nan_to_num(raw.depth / raw.alpha, 0, 0)
            surface = depth_to_normal(camera, expected) * raw.alpha.detach()
            terms["normal"] = (1 - (normal.permute(2, 0, 1) * surface).sum(0)).mean()
        return terms


def train(stage_type: type[Reconstruction], scene: Path) -> tuple[Reconstruction, float]:
    """The stage after its last step, and the mean PSNR of all views: fewer of them depend on
    what threshold a splat happened to pass."""
    words = {"source_path": str(scene), "model_path": "", "no_masks": True}
    config = resolve_run(SETTINGS, words)
    training = begin_run(config, scene, torch.device("cpu"))
    training.gaussians.params["log_scales"].data -= 1.5  # so that there are holes between them
    stage = stage_type(config, training.scene, training.gaussians, training.renderer)
    for iteration in range(1, STEPS + 1):
        step = take_step(stage, iteration)
        assert all(bool(torch.isfinite(value)) for value in step.terms.values()), iteration
    with torch.no_grad():
        views = [*training.scene.train, *training.scene.test]
        found = [psnr(stage.render_view(v, STEPS).color, v.image_on("cpu")) for v in views]
    return stage, float(torch.stack(found).mean())


@pytest.mark.slow
def test_a_renderer_of_the_family_trains_like_our_own(tmp_path: Path) -> None:
    scene = make_scene(
        SyntheticParams(
            str(tmp_path / "room"), width=96, height=72, views=15, samples=1, points=1500, workers=1
        )
    )
    own, own_psnr = train(Reconstruction, scene)
    family, family_psnr = train(FamilyReconstruction, scene)
    for name, tensor in family.gaussians.params.items():
        assert bool(torch.isfinite(tensor).all()), name
    assert family.empty_pixels > 10_000  # else it proves nothing
    grown = len(family.gaussians) - 1500
    assert grown > 300 and abs(len(own.gaussians) - len(family.gaussians)) < 0.1 * grown
    assert abs(own_psnr - family_psnr) < 0.3 and family_psnr > 19
