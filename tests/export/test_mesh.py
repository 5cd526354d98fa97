# SPDX-License-Identifier: Apache-2.0
"""Fusing the exact depth of balls and walls gives their surfaces; files are read by trimesh."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from iqgs.export.mesh import fusion
from iqgs.export.mesh.distances import sampled, surface_distances
from iqgs.export.mesh.files import (
    NamedMesh,
    box_of,
    convex_hull,
    convex_pieces,
    joined,
    write_mesh,
)
from iqgs.export.mesh.fusion import Field, fuse
from iqgs.export.mesh.grids import ContractedGrid, Grid
from iqgs.export.mesh.painting import of_object, painted
from iqgs.export.mesh.surface import Mesh, cleaned, extract_surface, piece_of_faces
from iqgs.export.mesh.views import DepthView
from scene.cameras import Camera
from scene.frame import SceneFrame
from utils.errors import UserError
from utils.geometry import look_at

pytest.importorskip("trimesh")
pytest.importorskip("skimage")

WIDTH, HEIGHT, FOCAL, DISTANCE = 80, 60, 70.0, 3.0
BALLS = {3: ((-0.5, 0.0, 0.1), 0.4), 9: ((0.55, 0.1, 0.0), 0.3)}
COLORS = {0: (0, 0, 0), 3: (250, 40, 10), 9: (20, 80, 240)}


def camera(direction: np.ndarray, index: int) -> Camera:
    up = np.array([0.0, 0.0, 1.0])
    pose = look_at(DISTANCE * direction / np.linalg.norm(direction), np.zeros(3), up)
    size = (WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    return Camera(torch.from_numpy(pose), FOCAL, FOCAL, *size, name=f"{index}", uid=index)


def balls_seen(by: Camera) -> DepthView:
    """The exact depth, colours and numbers of the two balls before a wall far behind them."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = torch.from_numpy(np.stack([columns.ravel(), rows.ravel()], 1) + 0.5)
    rays, start = by.ray_directions(pixels).numpy(), by.center.numpy()
    nearest = np.full(len(rays), np.inf)
    numbers = np.zeros(len(rays), np.int64)
    for number, (middle, radius) in BALLS.items():
        offset = np.array(middle) - start
        along = rays @ offset
        inside = along**2 - offset @ offset + radius**2
        hit = along - np.sqrt(np.maximum(inside, 0))
        closer = (inside > 0) & (hit < nearest)
        nearest[closer], numbers[closer] = hit[closer], number
    depth = np.where(numbers > 0, nearest * (rays @ by.forward.numpy()), 9.0)
    table = np.zeros((10, 3), np.uint8)
    for number, color in COLORS.items():
        table[number] = color
    shape = (HEIGHT, WIDTH)
    return DepthView(
        by,
        torch.from_numpy(depth.reshape(shape)).float(),
        torch.from_numpy(table[numbers].reshape(*shape, 3)).permute(2, 0, 1),
        torch.from_numpy(numbers.reshape(shape)),
    )


@pytest.fixture(scope="module")
def views() -> list[DepthView]:
    rng = np.random.default_rng(0)
    return [
        balls_seen(camera(direction, i)) for i, direction in enumerate(rng.normal(size=(40, 3)))
    ]


@pytest.fixture(scope="module")
def field(views: list[DepthView]) -> Field:
    return fuse(views, Grid(0.03, 0.15), 5.0)


@pytest.fixture(scope="module")
def mesh(views: list[DepthView], field: Field) -> Mesh:
    return painted(extract_surface(field), views, 0.06)


def error(mesh: Mesh, number: int) -> np.ndarray:
    middle, radius = BALLS[number]
    return np.linalg.norm(mesh.vertices - np.array(middle), axis=1) - radius


def volume(mesh: Mesh) -> float:
    """Enclosed, positive where triangles turn outwards (divergence theorem)."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("number", list(BALLS))
def test_exact_depth_gives_the_balls(mesh: Mesh, number: int) -> None:
    ball = cleaned(of_object(mesh, number), 50, 50)
    # Without the surface that nobody sees where the balls face each other, it is the sphere.
    assert np.abs(error(ball, number)).mean() < 0.006
    assert volume(ball) == pytest.approx(4 / 3 * math.pi * BALLS[number][1] ** 3, rel=0.08)
    assert len(np.unique(piece_of_faces(ball))) == 1
    assert ball.colors is not None
    assert np.abs(ball.colors.astype(int) - COLORS[number]).max(axis=1).mean() < 25


def test_places_of_one_edge_are_one_vertex(mesh: Mesh) -> None:
    """Watertight across the seams of what is marched through at a time."""
    edges = np.sort(
        np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    )
    _, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() == 2
    assert (counts == 1).mean() < 0.01


def test_a_contracted_grid_is_undone() -> None:
    grid = ContractedGrid(0.05, 0.25, center=(1.0, -2.0, 0.5), radius=2.0)
    points = torch.from_numpy(np.random.default_rng(1).normal(size=(200, 3)) * 8).double()
    torch.testing.assert_close(grid.to_world(grid.to_grid(points)), points)
    # mip-NeRF 360, Eq. 10: a point at three radii is contracted to 2 - 1/3
    far = torch.tensor([[1.0, -2.0, 0.5 + 6.0]], dtype=torch.float64)
    torch.testing.assert_close(grid.to_grid(far) * 0.05 / 2, torch.tensor([[0, 0, 5 / 3]]).double())
    assert float(grid.reach_at(far)) == pytest.approx(0.25 * 9)


def test_surroundings_are_fused_in_a_contracted_grid() -> None:
    """A wall fifteen radii off."""
    wall = 15.0
    seen = []
    for index, shift in enumerate((-0.4, 0.0, 0.4)):
        pose = np.eye(4)
        pose[0, 3] = shift
        size = (WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
        by = Camera(torch.from_numpy(pose), FOCAL, FOCAL, *size, name=f"{index}", uid=index)
        seen.append(DepthView(by, torch.full((HEIGHT, WIDTH), wall)))
    grid = ContractedGrid(0.004, 0.02, center=(0.0, 0.0, 0.0), radius=1.0)
    mesh = extract_surface(fuse(seen, grid, math.inf))
    assert len(mesh) > 100
    # One voxel is 0.004 * 15^2 = 0.9 m long out there.
    assert np.abs(mesh.vertices[:, 2] - wall).mean() < 0.2


def test_inverse_depth_is_read_between_pixels() -> None:
    """On a slanted plane the depth between pixels is exact; across an edge it is the nearest."""
    by = camera(np.array([0.0, -1.0, 0.0]), 0)
    x = (torch.arange(WIDTH) - WIDTH / 2 + 0.5) / FOCAL
    plane = (1 / (0.4 + 0.2 * x)).expand(HEIGHT, WIDTH).clone()
    view = DepthView(by, plane)
    places = torch.tensor([10.3, 40.71]), torch.tensor([5.5, 20.25])
    wanted = 1 / (0.4 + 0.2 * (places[0] - WIDTH / 2 + 0.5) / FOCAL)
    torch.testing.assert_close(view.depth_at(*places), wanted)
    stepped = DepthView(by, torch.where(torch.arange(WIDTH) < 40, 1.0, 3.0).expand(HEIGHT, WIDTH))
    at = stepped.depth_at(torch.tensor([39.4, 39.6]), torch.tensor([7.0, 7.0]))
    assert at.tolist() == [1.0, 3.0]


def test_too_fine_voxels_are_refused(
    views: list[DepthView], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "MOST_VOXELS", 1000)
    with pytest.raises(UserError, match=r"--voxel_size 0\.03: .* GB of voxels"):
        fuse(views, Grid(0.03, 0.15), 5.0)


def test_small_pieces_go() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    vertices = np.concatenate([square, square + 5, square + 9])
    faces = [[0, 1, 2], [0, 2, 3], [4, 5, 6], [8, 9, 10], [8, 10, 11]]
    mesh = Mesh(vertices, np.array(faces), labels=np.repeat([1, 2, 3], 4))
    assert len(cleaned(mesh, 50, 2)) == 4  # the single triangle is too small
    assert cleaned(mesh, 1, 1).vertices.max() == 1  # of equals the first
    two = cleaned(mesh, 2, 2)
    assert two.labels is not None and set(two.labels) == {1, 3} and len(two.vertices) == 8


def test_distances_of_a_lifted_square() -> None:
    vertices = np.array([[0, 0, 0.1], [1, 0, 0.1], [1, 1, 0.1], [0, 1, 0.1]])
    half = Mesh(vertices, np.array([[0, 1, 2]]))
    rng = np.random.default_rng(0)
    points = sampled(half, 0.005, rng)
    assert len(points) == 20000 and (points[:, 0] >= points[:, 1]).all()
    np.testing.assert_allclose(points.mean(axis=0), [2 / 3, 1 / 3, 0.1], atol=0.01)
    square = np.append(rng.uniform(size=(40000, 2)), np.zeros((40000, 1)), axis=1)
    found = surface_distances(points, square)
    assert found.accuracy == pytest.approx(0.1, abs=1e-3)
    # Half of the square lies below; a point of the other half is up to 1/sqrt(2) away from it.
    assert found.completeness > 0.15
    assert surface_distances(points[:0], square).chamfer == float("inf")


def test_files_as_trimesh_reads_them(tmp_path: Path, mesh: Mesh) -> None:
    trimesh = pytest.importorskip("trimesh")
    parts = [NamedMesh(k, n, of_object(mesh, k)) for k, n in ((3, "left"), (9, "right"))]
    frame = SceneFrame((100.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    write_mesh(tmp_path / "m.glb", parts, frame)
    scene = trimesh.load(tmp_path / "m.glb")
    assert set(scene.geometry) == {"left", "right"}
    left = scene.geometry["left"]
    assert len(left.faces) == len(parts[0].mesh)
    turned = parts[0].mesh.vertices[:, [0, 2, 1]] * [1, 1, -1]  # z up -> y up
    np.testing.assert_allclose(np.sort(left.vertices, 0), np.sort(turned, 0), atol=1e-5)
    assert trimesh.load(tmp_path / "m.glb", force="mesh").volume == pytest.approx(
        sum(volume(part.mesh) for part in parts), rel=1e-4
    )
    write_mesh(tmp_path / "m.ply", parts, frame)
    whole = trimesh.load(tmp_path / "m.ply", process=False)
    np.testing.assert_allclose(whole.vertices, joined(parts).vertices, atol=1e-5)
    assert set(np.unique(whole.visual.vertex_colors[:, 0])) <= set(range(256))
    header = (tmp_path / "m.ply").read_bytes()[:800].decode("latin-1")
    assert "IQGS origin: 100 0 0" in header and "IQGS: up is 0 0 1" in header
    assert "property int instance" in header


def test_colours_of_glb_are_linear(tmp_path: Path, mesh: Mesh) -> None:
    pygltflib = pytest.importorskip("pygltflib")
    pytest.importorskip("trimesh")
    ball = replace(of_object(mesh, 9), colors=None)
    grey = replace(ball, colors=np.full((len(ball.vertices), 3), 188, np.uint8))
    write_mesh(tmp_path / "m.glb", [NamedMesh(9, "grey", grey)], SceneFrame())
    document = pygltflib.GLTF2().load(str(tmp_path / "m.glb"))
    accessor = document.accessors[document.meshes[0].primitives[0].attributes.COLOR_0]
    view = document.bufferViews[accessor.bufferView]
    # sRGB 188 is half the light of white.
    assert document.binary_blob()[view.byteOffset] in (127, 128, 129)
    node = next(n for n in document.nodes if n.name == "grey")
    assert node.extras["instance"] == 9 and document.materials[0].doubleSided
    assert document.asset.extras["frame"]["up"] == "+Y"


def test_hull_and_box(mesh: Mesh) -> None:
    ball = cleaned(of_object(mesh, 3), 1, 50)
    hull = convex_hull(ball)
    assert hull is not None
    assert volume(hull) == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.05)
    np.testing.assert_allclose(box_of(ball.vertices)["size"], [0.8] * 3, atol=0.05)
    flat = Mesh(np.eye(4)[:, :3] * [1, 1, 0], np.array([[0, 1, 2]]))
    assert convex_hull(flat) is None


def test_convex_pieces_cover_the_mesh(mesh: Mesh) -> None:
    pytest.importorskip("coacd")
    pieces = convex_pieces(cleaned(of_object(mesh, 3), 1, 50), 0.2)
    assert sum(volume(piece) for piece in pieces) > 0.8 * 4 / 3 * math.pi * 0.4**3
