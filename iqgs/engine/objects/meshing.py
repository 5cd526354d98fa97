# SPDX-License-Identifier: Apache-2.0
"""Meshes of a run: the surfaces that its training views see, whole and by object."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from arguments.meshing import AUTOMATIC, MeshParams
from gaussian_renderer import Renderer
from iqgs.engine.run import Run
from iqgs.export.mesh.files import NamedMesh, write_mesh
from iqgs.export.mesh.fusion import fuse
from iqgs.export.mesh.grids import ContractedGrid, Grid
from iqgs.export.mesh.packages import require_mesh_packages
from iqgs.export.mesh.painting import of_object, painted
from iqgs.export.mesh.rendered import rendered_view
from iqgs.export.mesh.stereo import Search, refined_views
from iqgs.export.mesh.surface import FEWEST_FACES, Mesh, cleaned, extract_surface
from iqgs.export.mesh.views import DepthView
from iqgs.objects.labelled import LabelledSplats
from scene.cameras import Camera
from scene.points import camera_ring
from utils.errors import RunError, UserError
from utils.progress import tqdm

logger = logging.getLogger(__name__)

STEREO_PIXELS = 8_000_000  # of all views together, up to which `auto` compares them
STEREO_SECONDS = 2.7e-5  # of a processor for a pixel of a view

DEPTH_RADII = 2.0  # 2DGS's reach: depths up to twice the distance of the cameras to the focus
OBJECT_RADII = 4.0  # objects may stand farther off, up to here
OBJECT_SHARE = 0.99  # of the pixels of objects that have to lie within reach
REACH_VOXELS = 5.0  # 2DGS's truncation
SEEN_VOXELS = 2.0  # a view sees a vertex where its depth is that near
BALL = 4.0  # voxels across a contracted scene, in radii of its ball
SMALL_PIECE = 0.02  # pieces of an object with a smaller share of its faces are dropped


@dataclass(frozen=True, eq=False)
class SceneMesh:
    """The surfaces of a scene; with colours, and with objects where the splats have such."""

    mesh: Mesh
    grid: Grid
    most_pieces: int

    def whole(self) -> Mesh:
        """Everything but small pieces."""
        return cleaned(self.mesh, self.most_pieces, FEWEST_FACES)

    def of(self, number: int) -> Mesh:
        """The surface of one object without small pieces; no faces where no view sees it."""
        part = of_object(self.mesh, number)
        fewest = max(FEWEST_FACES, int(SMALL_PIECE * len(part)))
        return cleaned(part, self.most_pieces, fewest)


def _compares(views: Sequence[DepthView], params: MeshParams) -> bool:
    """Whether depth is put right by comparing views."""
    pixels = sum(view.depth.numel() for view in views)
    if params.stereo != "auto":
        return params.stereo == "on"
    if pixels > STEREO_PIXELS:
        logger.info(
            "%d views of %.0f million pixels in all are not compared to put their depth right; "
            "--stereo on does it, in about %.0f minutes of a processor",
            len(views),
            pixels / 1e6,
            pixels * STEREO_SECONDS / 60,
        )
    return pixels <= STEREO_PIXELS


def scene_mesh(
    objects: LabelledSplats, cameras: Sequence[Camera], renderer: Renderer, params: MeshParams
) -> SceneMesh:
    """Render depth from every camera and fuse it. UserError where there is nothing to see."""
    require_mesh_packages()
    if not cameras:
        raise UserError("--mesh: the run has no training views to render depth from")
    show = tqdm(cameras, desc="Rendering depth", disable=params.quiet)
    views = [rendered_view(camera, objects, renderer) for camera in show]
    if _compares(views, params):
        found = refined_views(views, Search())
        views = list(tqdm(found, "Comparing views", len(views), disable=params.quiet))
    grid, farthest = grid_for(views, params)
    logger.info("fusing %d views in voxels of %.4g", len(views), grid.voxel)
    surface = extract_surface(fuse(views, grid, farthest))
    if not len(surface):
        raise RunError("--mesh: the views see no surface; a larger --depth_trunc may help")
    return SceneMesh(painted(surface, views, SEEN_VOXELS * grid.voxel), grid, params.num_cluster)


def grid_for(views: Sequence[DepthView], params: MeshParams) -> tuple[Grid, float]:
    """The voxels of these views and the farthest depth that counts, where not given by 2DGS's
    rules, but no voxel finer than a pixel at the focus, and objects farther off included.
    """
    cameras = [view.camera for view in views]
    focus, radius = camera_ring(cameras)
    farthest = DEPTH_RADII * radius if params.depth_trunc == AUTOMATIC else params.depth_trunc
    voxel = params.voxel_size
    if voxel == AUTOMATIC:
        across = BALL * radius if params.unbounded else farthest
        voxel = max(across / params.mesh_res, pixel_at(cameras, radius))
    reach = REACH_VOXELS * voxel if params.sdf_trunc == AUTOMATIC else params.sdf_trunc
    if params.depth_trunc == AUTOMATIC:
        farthest = max(farthest, min(_objects_within(views), OBJECT_RADII * radius))
    if params.unbounded:
        x, y, z = (float(v) for v in focus)
        return ContractedGrid(voxel, reach, center=(x, y, z), radius=radius), math.inf
    return Grid(voxel, reach), farthest


def pixel_at(cameras: Sequence[Camera], depth: float) -> float:
    """The median size of a pixel at a depth, scene units."""
    sizes = sorted(depth / max(camera.fx, camera.fy) for camera in cameras)
    return sizes[len(sizes) // 2]


def _objects_within(views: Sequence[DepthView]) -> float:
    """A depth within which nearly all pixels of objects lie; 0 without objects."""
    found = [v.depth[(v.labels > 0) & (v.depth > 0)] for v in views if v.labels is not None]
    depths = torch.cat(found) if found else torch.zeros(0)
    if not len(depths):
        return 0.0
    place = max(1, int(OBJECT_SHARE * len(depths)))
    return float(depths.kthvalue(place).values)


def named_meshes(
    scene: SceneMesh, objects: LabelledSplats, numbers: Sequence[int]
) -> list[NamedMesh]:
    """The meshes of these objects; those without a surface are left out, with a notice."""
    found = []
    for number in numbers:
        name = objects.names.get(number, f"object {number}")
        mesh = scene.of(number)
        if len(mesh):
            found.append(NamedMesh(number, name, mesh))
        else:
            logger.warning("%s (%d): no training view shows a surface of it", name, number)
    return found


def render_mesh(run: Run, objects: LabelledSplats, params: MeshParams) -> list[Path]:
    """2DGS's files: `train/ours_N/fuse[_unbounded].ply`, and `.._post.ply` without small pieces."""
    found = scene_mesh(objects, run.cameras.train, run.renderer, params)
    folder = run.folder / "train" / run.output_name
    name = "fuse_unbounded" if params.unbounded else "fuse"
    paths = []
    for suffix, mesh in (("", found.mesh), ("_post", found.whole())):
        paths.append(folder / f"{name}{suffix}.ply")
        write_mesh(paths[-1], [NamedMesh(0, "scene", mesh)], run.frame)
    return paths
