# SPDX-License-Identifier: Apache-2.0
"""Every object of a run as files of its own, a list of them, and a page to click through."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from arguments.exporting import ObjectsParams
from iqgs.engine.objects.leveling import at_wanted_level
from iqgs.engine.objects.listing import OBJECTS_FILE, Listed, list_objects
from iqgs.engine.objects.meshing import SceneMesh, scene_mesh
from iqgs.engine.objects.opened import replayed
from iqgs.engine.objects.script import read_script
from iqgs.engine.run import Run
from iqgs.engine.run_folder import objects_folder
from iqgs.export.activations import sigmoid
from iqgs.export.gallery import gallery_page
from iqgs.export.mesh.files import NamedMesh, convex_hull, convex_pieces, write_mesh
from iqgs.export.mesh.surface import Mesh
from iqgs.export.ply import write_ply
from iqgs.export.record import ObjectRows, SplatArrays, from_objects
from utils.json_files import read_json
from utils.progress import tqdm
from utils.storage import write_text

PAGE_FILE = "gallery.html"
SPLATS_FILE, MESH_FILE, HULL_FILE = "splats.ply", "mesh.glb", "hull.glb"
CONCAVITY = 0.05  # CoACD's own default: what pieces may leave, as a share of the size
SOLID = 0.5  # opacity of a splat that counts for a hull


def write_objects(run: Run, params: ObjectsParams) -> list[str]:
    """Write the folder; returns a line for each object and one for the page. UserError, RunError.

    An object without a surface in any training view gets splats and a hull of these only.
    """
    script = read_script(run)
    objects = at_wanted_level(run, replayed(run, script.edits), params)
    level = params.wanted_level
    folder = Path(params.output or objects_folder(run.folder, level))
    list_objects(run, objects, Listed(len(script.edits), level), folder, pictures=True)
    scene = None
    if params.mesh:
        scene = scene_mesh(objects, run.cameras.train, run.renderer, params)
    ordered, groups = from_objects(objects).by_object()
    files = {}
    named = [group for group in groups if group.number]
    for group in tqdm(named, desc="Writing objects", disable=params.quiet):
        part = ordered.rows(np.arange(group.first, group.first + group.count))
        files[group.number] = _write_files(folder, group, part, scene, params)
    record = read_json(folder / OBJECTS_FILE)
    for row in record["objects"]:
        row["files"] = files[row["id"]]
    write_text(folder / OBJECTS_FILE, json.dumps(record, indent=1) + "\n")
    write_text(folder / PAGE_FILE, gallery_page(run.folder.name, record["objects"], folder))
    lines = [
        f"{row['id']:>5}  {row['name'] or '-'}: {', '.join(row['files'].values())}"
        for row in record["objects"]
    ]
    return [*lines, f"{folder / PAGE_FILE} ({len(files)} objects)"]


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
