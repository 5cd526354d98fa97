# SPDX-License-Identifier: Apache-2.0
"""Every object of a run as files of its own, a list of them, and a page to click through."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from arguments.exporting import ObjectsParams
from iqgs.engine.objects.meshing import SceneMesh, scene_mesh
from iqgs.engine.objects.opened import trained_objects
from iqgs.engine.pictures.files import write_picture
from iqgs.engine.pictures.views import to_bytes
from iqgs.engine.run import Run
from iqgs.export.activations import sigmoid
from iqgs.export.gallery import gallery_page
from iqgs.export.mesh.files import NamedMesh, box_of, convex_hull, convex_pieces, write_mesh
from iqgs.export.mesh.surface import Mesh
from iqgs.export.ply import write_ply
from iqgs.export.record import ObjectRows, SplatArrays, from_objects
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from utils.storage import write_text

logger = logging.getLogger(__name__)

OBJECTS_FOLDER = "objects"  # of a run
LIST_FILE, PAGE_FILE, PREVIEWS = "objects.json", "index.html", "previews"
SPLATS_FILE, MESH_FILE, HULL_FILE = "splats.ply", "mesh.glb", "hull.glb"
PREVIEW_SIDE = 192  # pixels
GROUND = 0.93  # brightness behind an object: light ones and dark ones stand out
CONCAVITY = 0.05  # CoACD's own default: what pieces may leave, as a share of the size
CORE = (0.01, 0.99)  # shares of the splats between which an object's box lies
SOLID = 0.5  # opacity of a splat that counts for a hull
_SAMPLE = 300  # splats of an object that decide which view shows it best


def write_objects(run: Run, params: ObjectsParams) -> list[str]:
    """Write the folder; returns a line for each object and one for the page. UserError, RunError.

    An object without a surface in any training view gets splats and a hull of these only.
    """
    objects = trained_objects(run)
    folder = Path(params.output or run.folder / OBJECTS_FOLDER)
    scene = None
    if params.mesh:
        scene = scene_mesh(objects, run.cameras.train, run.renderer, params)
    ordered, groups = from_objects(objects).by_object()
    rows = []
    named = [group for group in groups if group.number]
    for group in tqdm(named, desc="Writing objects", disable=params.quiet):
        part = ordered.rows(np.arange(group.first, group.first + group.count))
        files = _write_files(folder, group, part, scene, params)
        picture = folder / PREVIEWS / f"{group.number}.png"
        write_picture(picture, preview(run, part))
        rows.append(_row(group, part, files))
    record = {"format": 1, "frame": {"origin": run.frame.origin, "up": run.frame.up}}
    write_text(folder / LIST_FILE, json.dumps(record | {"objects": rows}, indent=1) + "\n")
    write_text(folder / PAGE_FILE, gallery_page(run.folder.name, rows, folder))
    lines = [f"{row['id']:>5}  {row['name']}: {', '.join(row['files'].values())}" for row in rows]
    return [*lines, f"{folder / PAGE_FILE} ({len(rows)} objects)"]


def _write_files(
    folder: Path,
    group: ObjectRows,
    part: SplatArrays,
    scene: SceneMesh | None,
    params: ObjectsParams,
) -> dict[str, str]:
    """The files of one object by kind, relative to `folder`."""
    home = folder / str(group.number)
    files = {"splats": home / SPLATS_FILE}
    write_ply(files["splats"], part, as_3dgs=True)
    mesh = None if scene is None else scene.of(group.number)
    if mesh is not None and len(mesh):
        files["mesh"] = home / MESH_FILE
        write_mesh(files["mesh"], [NamedMesh(group.number, group.name, mesh)], part.frame)
    around = _hull(part, mesh, params.hull)
    if around:
        files["hull"] = home / HULL_FILE
        write_mesh(
            files["hull"], [NamedMesh(group.number, group.name, m) for m in around], part.frame
        )
    return {kind: path.relative_to(folder).as_posix() for kind, path in files.items()}


def _hull(part: SplatArrays, mesh: Mesh | None, kind: str) -> list[Mesh]:
    """The hull of a mesh, of the centres of solid splats where there is none."""
    if kind == "none":
        return []
    if mesh is not None and len(mesh):
        if kind == "pieces":
            return convex_pieces(mesh, CONCAVITY)
        found = convex_hull(mesh)
    else:
        solid = sigmoid(part.raw["opacity_logits"][:, 0]) > SOLID
        centers = part.raw["means"][solid].astype(np.float64)
        found = convex_hull(Mesh(centers, np.zeros((0, 3), np.int64)))
    return [] if found is None else [found]


def _row(group: ObjectRows, part: SplatArrays, files: dict[str, str]) -> dict[str, Any]:
    core = np.quantile(part.raw["means"].astype(np.float64), CORE, axis=0)
    return {
        "id": group.number,
        "name": group.name,
        "splats": group.count,
        "box": box_of(core),
        "confidence": float(part.confidence.mean()),
        "preview": f"{PREVIEWS}/{group.number}.png",
        "files": files,
    }


@torch.no_grad()
def preview(run: Run, part: SplatArrays) -> NDArray[np.uint8]:
    """An object alone [192, 192, 3], through the training view that shows most of it."""
    means = part.raw["means"]
    sample = means[:: max(1, len(means) // _SAMPLE)].astype(np.float64)
    best = best_view(run.cameras.train or run.cameras.test, sample)
    splats = GaussianModel({name: torch.from_numpy(array) for name, array in part.raw.items()})
    splats.active_sh_degree = splats.sh_degree
    renderer = replace(run.renderer, background=torch.full((3,), GROUND))
    close = closer(best, torch.from_numpy(sample), PREVIEW_SIDE)
    lens = renderer.lens(close, splats.to(run.gaussians.device))
    return to_bytes(lens.render(with_surface=False).color)


def best_view(cameras: Sequence[Camera], points: NDArray[np.float64]) -> Camera:
    """The camera with the largest share of points [N, 3] in its image, near ones counting more."""
    # For all cameras at once: torch takes longer to begin than such few points need.
    poses = np.stack([camera.world_to_view[:3].numpy() for camera in cameras])
    view = np.einsum("cij,nj->cni", poses[:, :, :3], points) + poses[:, None, :, 3]
    near, *lens = np.array([(c.near, c.fx, c.cx, c.fy, c.cy) for c in cameras]).T[:, :, None]
    wide, high = np.array([(c.width, c.height) for c in cameras]).T[:, :, None]
    depth = np.maximum(view[:, :, 2], near)
    x, y = lens[0] * view[:, :, 0] / depth + lens[1], lens[2] * view[:, :, 1] / depth + lens[3]
    inside = (view[:, :, 2] > near) & (x >= 0) & (x < wide) & (y >= 0) & (y < high)
    return cameras[int((inside / depth).mean(axis=1).argmax())]


def closer(camera: Camera, points: torch.Tensor, side: int) -> Camera:
    """A square cut-out of `side` pixels of a camera's image, enlarged, that shows points [N, 3]."""
    pixels, depth = camera.project(points)
    seen = pixels[depth > camera.near]
    if not len(seen):
        return camera.resized(side, side)
    low, high = torch.quantile(seen, torch.tensor(CORE, dtype=seen.dtype), dim=0)
    middle, extent = (low + high) / 2, max(float((high - low).max()) * 1.3, 4.0)
    scale = side / extent
    x, y = (float(v) for v in middle - extent / 2)
    return replace(
        camera,
        fx=camera.fx * scale,
        fy=camera.fy * scale,
        cx=(camera.cx - x) * scale,
        cy=(camera.cy - y) * scale,
        width=side,
        height=side,
    )
