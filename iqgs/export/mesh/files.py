# SPDX-License-Identifier: Apache-2.0
"""Meshes as files: binary glTF with a node an object, and PLY; hulls and boxes round objects."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iqgs.export.activations import srgb_to_linear
from iqgs.export.frames import UprightFrame
from iqgs.export.mesh.packages import require_mesh_packages
from iqgs.export.mesh.surface import Mesh
from scene.frame import SceneFrame
from scene.splat_files.frames import frame_comments, up_comment
from utils.errors import UserError
from utils.storage import atomic_write

if TYPE_CHECKING:
    import trimesh


@dataclass(frozen=True, eq=False)
class NamedMesh:
    """The mesh of one object, in the coordinates of the run."""

    number: int  # of the object; 0: everything
    name: str
    mesh: Mesh


def write_mesh(path: Path, parts: Sequence[NamedMesh], frame: SceneFrame) -> None:
    """Write meshes as binary glTF (+Y up, a node each) or as one PLY (the run's coordinates).

    Vertices of a PLY have the number of their object, `instance`, where there are several parts.
    Raises UserError without the package trimesh.
    """
    data = _ply(parts, frame) if path.suffix.lower() == ".ply" else _glb(parts, frame)
    atomic_write(path, lambda stream: stream.write(data), len(data))


def _library() -> Any:
    require_mesh_packages()
    return importlib.import_module("trimesh")


def _as_trimesh(mesh: Mesh, vertices: NDArray[Any], linear: bool) -> trimesh.Trimesh:
    colors = None
    if mesh.colors is not None:
        colors = mesh.colors
        if linear:  # glTF has linear colours, PLY those of photographs
            colors = np.round(srgb_to_linear(colors / 255.0) * 255).astype(np.uint8)
    return _library().Trimesh(vertices, mesh.faces, vertex_colors=colors, process=False)


def _glb(parts: Sequence[NamedMesh], frame: SceneFrame) -> bytes:
    upright = UprightFrame.of(frame)
    scene = _library().Scene()
    extras: dict[str, dict[str, Any]] = {}
    for part in parts:
        name = part.name if part.name not in extras else f"{part.name} ({part.number})"
        extras[name] = {"instance": part.number, "faces": len(part.mesh)}
        made = _as_trimesh(part.mesh, upright.points(part.mesh.vertices), linear=True)
        scene.add_geometry(made, node_name=name, geom_name=name)

    def finish(tree: dict[str, Any]) -> None:
        """What the library does not write: objects, the frame, and that surfaces are open."""
        tree["asset"]["extras"] = {"frame": upright.described()}
        surface = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
        tree["materials"] = [{"doubleSided": True, "pbrMetallicRoughness": surface}]
        for mesh in tree["meshes"]:
            for primitive in mesh["primitives"]:
                primitive["material"] = 0
        for node in tree["nodes"]:
            if node.get("name") in extras:
                node["extras"] = extras[node["name"]]

    data: bytes = scene.export(file_type="glb", include_normals=True, tree_postprocessor=finish)
    return data


def _ply(parts: Sequence[NamedMesh], frame: SceneFrame) -> bytes:
    whole = joined(parts)
    made = _as_trimesh(whole, whole.vertices, linear=False)
    if whole.labels is not None:
        made.vertex_attributes["instance"] = whole.labels.astype(np.int32)
    data: bytes = made.export(file_type="ply")
    comments = [up_comment(frame), "IQGS: lengths are in the units of the scene's files"]
    lines = "".join(f"comment {text}\n" for text in [*comments, *frame_comments(frame)])
    end = data.index(b"end_header")
    return data[:end] + lines.encode() + data[end:]


def joined(parts: Sequence[NamedMesh]) -> Mesh:
    """All parts as one mesh; vertices have the number of their part where there are several."""
    if len(parts) == 1:
        return parts[0].mesh
    meshes = [part.mesh for part in parts]
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    colors = [mesh.colors for mesh in meshes if mesh.colors is not None]
    labels = [np.full(len(part.mesh.vertices), part.number, np.int64) for part in parts]
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
        np.concatenate(colors) if len(colors) == len(meshes) else None,
        np.concatenate(labels),
    )


def convex_hull(mesh: Mesh) -> Mesh | None:
    """The convex hull of a mesh; None where its vertices span no volume."""
    from scipy.spatial import ConvexHull, QhullError

    if len(mesh.vertices) < 4:
        return None
    try:
        hull = ConvexHull(mesh.vertices)
    except QhullError:
        return None
    # Qhull's triangles have no order of their own; its equations point outwards.
    a, b, c = (mesh.vertices[hull.simplices[:, i]] for i in range(3))
    inward = (np.cross(b - a, c - a) * hull.equations[:, :3]).sum(axis=1) < 0
    faces = hull.simplices.astype(np.int64)
    faces[inward] = faces[inward][:, ::-1]
    return Mesh(mesh.vertices, faces).part(np.ones(len(faces), bool))


def convex_pieces(mesh: Mesh, concavity: float) -> list[Mesh]:
    """Convex pieces that together follow a mesh, by CoACD (Wei et al. 2022).

    `concavity` is what may be left, as a share of the size. UserError without the package coacd.
    """
    try:
        import coacd
    except ImportError:
        raise UserError("--hull pieces needs the package coacd: pip install coacd") from None
    coacd.set_log_level("error")
    found = coacd.run_coacd(coacd.Mesh(mesh.vertices, mesh.faces), threshold=concavity)
    return [Mesh(np.asarray(v, np.float64), np.asarray(f, np.int64)) for v, f in found]


def box_of(vertices: NDArray[np.floating]) -> Mapping[str, list[float]]:
    """The box along the axes round points [N, 3]: `min`, `max`, `size`."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return {
        name: [float(v) for v in values]
        for name, values in (("min", low), ("max", high), ("size", high - low))
    }


def colored(mesh: Mesh, color: Sequence[int]) -> Mesh:
    """The mesh in one colour, RGB in 0..255."""
    return replace(mesh, colors=np.tile(np.array(color, np.uint8), (len(mesh.vertices), 1)))
