# SPDX-License-Identifier: Apache-2.0
"""Objects of a run as files: splats, meshes and the whole folder, from a hand-made run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from arguments.exporting import (
    ObjectsParams,
    parse_export_arguments,
    parse_objects_arguments,
)
from arguments.meshing import MeshParams
from arguments.rendering import parse_render_arguments
from diff_surfel_rasterization import BlendWeights
from iqgs.engine.objects import exporting, meshing
from iqgs.engine.objects.exporting import export, export_mesh
from iqgs.engine.objects.folder import write_objects
from iqgs.engine.objects.meshing import grid_for, render_mesh, scene_mesh
from iqgs.engine.objects.opened import run_objects, trained_objects
from iqgs.engine.run import Run
from iqgs.engine.run_folder import RunCameras
from iqgs.engine.settings import resolve_run
from iqgs.export.mesh.grids import ContractedGrid
from iqgs.export.mesh.rendered import (
    entry_depths,
    objects_of_pixels,
    pixels_of,
    rendered_view,
    surface_depth,
)
from iqgs.export.mesh.views import DepthView
from iqgs.export.record import from_file
from iqgs.methods.protocol import SplatLabels
from scene.cameras import Camera
from scene.frame import SceneFrame
from scene.gaussian_model import GaussianModel
from utils.errors import UserError
from utils.geometry import look_at

WIDTH, HEIGHT, FOCAL, DISTANCE = 160, 120, 150.0, 3.0
BALLS = {7: ((-0.5, 0.0, 0.0), 0.4, (0.9, 0.2, 0.1)), 300: ((0.6, 0.0, 0.1), 0.3, (0.1, 0.3, 0.9))}
DISCS = 2500  # of each ball


def cameras() -> tuple[Camera, ...]:
    directions = np.random.default_rng(2).normal(size=(16, 3))
    found = []
    for index, direction in enumerate(directions / np.linalg.norm(directions, axis=1)[:, None]):
        pose = look_at(DISTANCE * direction, np.zeros(3), np.array([0.0, 0.0, 1.0]))
        size = (WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
        at = torch.from_numpy(pose)
        found.append(Camera(at, FOCAL, FOCAL, *size, name=f"{index}.png", uid=index))
    return tuple(found)


def ball_splats() -> tuple[GaussianModel, torch.Tensor]:
    """Nearly opaque discs on two balls, and the numbers of their balls."""
    rng = np.random.default_rng(1)
    means, turns, colors, labels = [], [], [], []
    for number, (middle, radius, color) in BALLS.items():
        normals = rng.normal(size=(DISCS, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        means.append(np.array(middle) + radius * normals)
        # From z to the normal: half a turn about what lies between them.
        between = normals + [0, 0, 1]
        axis = np.pi * between / np.linalg.norm(between, axis=1, keepdims=True)
        turns.append(Rotation.from_rotvec(axis).as_quat()[:, [3, 0, 1, 2]])
        colors.append(np.tile((np.array(color) - 0.5) / 0.28209479, (DISCS, 1)))
        labels += [number] * DISCS
    count = len(labels)
    values = {
        "means": np.concatenate(means),
        "log_scales": np.full((count, 2), np.log(0.014)),
        "quaternions": np.concatenate(turns),
        "opacity_logits": np.full((count, 1), 4.0),
        "sh_dc": np.concatenate(colors)[:, None],
        "sh_rest": np.zeros((count, 0, 3)),
        "instance": np.zeros((count, 0)),
    }
    tensors = {name: torch.from_numpy(array).float() for name, array in values.items()}
    return GaussianModel(tensors), torch.tensor(labels)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    splats, labels = ball_splats()
    config = resolve_run({}, {"source_path": str(tmp_path), "model_path": str(tmp_path / "run")})
    return Run(
        config=config,
        folder=tmp_path / "run",
        cameras=RunCameras(cameras(), ()),
        gaussians=splats,
        frame=SceneFrame((10.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
        iteration=5,
        saved_labels=SplatLabels(labels, torch.full((len(labels),), 0.9), "global"),
    )


def quick(stereo: str = "off", **settings: object) -> MeshParams:
    """Without what takes longest, unless asked for."""
    return MeshParams(quiet=True, voxel_size=0.03, stereo=stereo, **settings)  # type: ignore[arg-type]


def error(vertices: np.ndarray, number: int) -> np.ndarray:
    middle, radius, _ = BALLS[number]
    return np.abs(np.linalg.norm(vertices - np.array(middle), axis=1) - radius)


@pytest.mark.parametrize("stereo", ["off", "on"])
def test_meshes_of_objects_are_their_balls(run: Run, stereo: str) -> None:
    """Also where pictures of one colour, but for the discs' edges, are compared."""
    pytest.importorskip("trimesh")
    scene = scene_mesh(trained_objects(run), run.cameras.train, run.renderer, quick(stereo))
    for number, (_, _, color) in BALLS.items():
        mesh = scene.of(number)
        # At the rim a ball of discs is a pixel wider than the ball itself, and discs that touch a
        # ball lie outside of it but for their centres.
        assert np.median(error(mesh.vertices, number)) < 0.025
        assert mesh.colors is not None
        assert np.abs(np.median(mesh.colors / 255.0, axis=0) - color).max() < 0.05
    assert len(scene.of(5)) == 0
    assert len(scene.whole()) >= len(scene.of(7)) + len(scene.of(300))


def test_render_mesh_writes_the_files_of_2dgs(run: Run) -> None:
    trimesh = pytest.importorskip("trimesh")
    paths = render_mesh(run, run_objects(run), quick())
    assert [p.name for p in paths] == ["fuse.ply", "fuse_post.ply"]
    assert paths[0].parent == run.folder / "train" / "ours_5"
    whole = trimesh.load(paths[1])
    wanted = np.minimum(error(whole.vertices, 7), error(whole.vertices, 300))
    assert np.median(wanted) < 0.03
    run.saved_labels = None  # reconstructed only: the same surfaces, of no object
    paths = render_mesh(run, run_objects(run), quick(unbounded=True))
    assert [p.name for p in paths] == ["fuse_unbounded.ply", "fuse_unbounded_post.ply"]
    alike = trimesh.load(paths[1])
    np.testing.assert_allclose(alike.bounds, whole.bounds, atol=0.1)


def test_automatic_lengths_follow_2dgs_but_no_finer_than_pixels() -> None:
    views = [DepthView(c, torch.full((HEIGHT, WIDTH), 3.0)) for c in cameras()]
    grid, farthest = grid_for(views, MeshParams(mesh_res=64))
    assert farthest == pytest.approx(2 * DISTANCE, rel=1e-3)
    assert grid.voxel == pytest.approx(farthest / 64)
    assert grid.reach == pytest.approx(5 * grid.voxel)
    grid, _ = grid_for(views, MeshParams(mesh_res=4096))
    assert grid.voxel == pytest.approx(DISTANCE / FOCAL, rel=1e-3)
    grid, farthest = grid_for(views, MeshParams(voxel_size=0.1, sdf_trunc=0.2, depth_trunc=4.0))
    assert (grid.voxel, grid.reach, farthest) == (0.1, 0.2, 4.0)
    far = [replace(v, depth=v.depth * 3, labels=torch.ones_like(v.depth).long()) for v in views]
    assert grid_for(far, MeshParams())[1] == pytest.approx(9.0)  # objects farther off, included
    grid, farthest = grid_for(views, MeshParams(unbounded=True, mesh_res=100))
    assert isinstance(grid, ContractedGrid) and farthest == float("inf")
    assert grid.radius == pytest.approx(DISTANCE, rel=1e-3)
    np.testing.assert_allclose(grid.center, 0, atol=1e-3)


def test_depth_is_that_of_the_pixels_own_object(run: Run) -> None:
    """Against a loop over the pixels of one view; discs meet rays on their planes."""
    objects, camera = trained_objects(run), run.cameras.train[0]
    weights = run.lens(camera).weights(0.0)
    labels, own = objects_of_pixels(weights, objects.labels)
    depths = entry_depths(camera, objects.splats, weights)
    found = surface_depth(camera, weights, torch.where(own, weights.weight, 0.0), depths)
    pixels = pixels_of(weights)
    normals = objects.splats.normals().detach().double()
    means = objects.splats.means.detach().double()
    compared = 0
    for pixel in range(0, WIDTH * HEIGHT, 83):
        first, last = int(weights.row_start[pixel]), int(weights.row_start[pixel + 1])
        assert (pixels[first:last] == pixel).all()
        if first == last:
            assert labels[pixel] == 0 and found[pixel] == 0
            continue
        splats, shares = weights.splat[first:last].long(), weights.weight[first:last].double()
        sums = {n: float(shares[objects.labels[splats] == n].sum()) for n in BALLS}
        best = max(sums, key=lambda number: sums[number])
        assert labels[pixel] == best
        at = torch.tensor([[pixel % WIDTH + 0.5, pixel // WIDTH + 0.5]])
        ray = camera.ray_directions(at)[0]
        met = []
        for k, splat in enumerate(splats.tolist()):
            if int(objects.labels[splat]) == best:
                away = float((means[splat] - camera.center) @ normals[splat])
                along = away / float(ray @ normals[splat]) * float(ray @ camera.forward)
                mine = float(depths[first + k])
                center = float((means[splat] - camera.center) @ camera.forward)
                assert mine in (pytest.approx(along, abs=1e-3), pytest.approx(center, abs=1e-3))
                met.append((mine, float(shares[k])))
        met.sort()
        gone = np.cumsum([share for _, share in met]) / sums[best]
        quarter, half = (met[int((gone >= s - 1e-6).argmax())][0] for s in (0.25, 0.5))
        wanted = quarter if half - quarter <= half / FOCAL else half
        assert float(found[pixel]) == pytest.approx(wanted, abs=1e-4)
        compared += 1
    assert compared > 5
    seen = rendered_view(camera, objects, run.renderer)
    assert seen.labels is not None and set(seen.labels.unique().tolist()) == {0, 7, 300}
    # Nearly opaque splats: the renderer's own median is of the same surface, but at the rim.
    image = run.lens(camera).render(with_surface=False)
    inner = (image.alpha[0] > 0.95) & seen.depth.isfinite()
    assert (seen.depth - image.median_depth[0])[inner].abs().median() < 2e-3
    assert (seen.depth.isfinite() == (image.alpha[0] > 0.5)).all()


def test_the_surface_is_where_the_first_layers_are() -> None:
    """One pixel, entries in the order of blending, which is not that of their depths."""
    camera = replace(cameras()[0], width=1, height=1)
    depths = torch.tensor([2.02, 2.0, 2.01, 9.0])
    share = torch.tensor([0.3, 0.3, 0.2, 0.1])
    start = torch.tensor([0, 4])
    weights = BlendWeights(start, torch.arange(4, dtype=torch.int32), share, 4)
    assert float(surface_depth(camera, weights, share, depths)) == pytest.approx(2.0)
    # What floats a metre before a wall is no surface.
    floating = torch.tensor([1.0, 2.0, 2.0, 2.0])
    assert float(surface_depth(camera, weights, share, floating)) == pytest.approx(2.0)
    nobody = torch.zeros(4)
    assert float(surface_depth(camera, weights, nobody, depths)) == 0


def test_splats_of_a_file_become_other_files(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("pygltflib")
    source = tmp_path / "some.ply"
    objects = trained_objects(run)
    run.gaussians.save_ply(source, instance=objects.labels, confidence=objects.confidence)
    said = export(parse_export_arguments(["-m", str(source), "--id", "300", "--format", "glb"]))
    assert said == f"{tmp_path / 'object-300.glb'} ({DISCS} splats, 1 objects)"
    export(parse_export_arguments(["-m", str(source), "-o", str(tmp_path / "v.ply"), "--as_3dgs"]))
    again = from_file(tmp_path / "v.ply")
    assert set(again.labels.tolist()) == {7, 300}
    np.testing.assert_allclose(again.raw["means"], run.gaussians.means.detach(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--id", "9", "-o", "x.glb"], "--id 9: no splat belongs to it; there are: 7, 300"),
        (["-o", "x.obj"], r"--output \(-o\) must be a file of one of the formats"),
        (["--mesh", "-o", "x.usd"], "--format must be one of"),
        (["--mesh", "-o", "x.glb"], "is a file; depth needs the cameras of a run"),
        (["--voxel_size", "-3", "-o", "x.glb"], "--voxel_size must be positive, or -1"),
    ],
)
def test_wrong_wishes_are_one_sentence(
    tmp_path: Path, run: Run, arguments: list[str], said: str
) -> None:
    source = tmp_path / "some.ply"
    run.gaussians.save_ply(source, instance=trained_objects(run).labels)
    with pytest.raises(UserError, match=said):
        export(parse_export_arguments(["-m", str(source), *arguments]))


def test_a_mesh_of_one_object(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trimesh = pytest.importorskip("trimesh")
    monkeypatch.setattr(meshing, "refined_views", None)  # not for one object, unless asked
    words = [
        "-m",
        "run",
        "--mesh",
        "--id",
        "7",
        "--voxel_size",
        "0.03",
        "--quiet",
    ]
    params = parse_export_arguments([*words, "-o", str(tmp_path / "ball.glb")])
    assert export_mesh(run, params).startswith(str(tmp_path / "ball.glb"))
    scene = trimesh.load(tmp_path / "ball.glb")
    assert list(scene.geometry) == ["object 7"]
    middle = (scene.bounds[0] + scene.bounds[1]) / 2
    np.testing.assert_allclose(middle, [-0.5, 0.0, 0.0], atol=0.03)  # y up: (x, z, -y)


def test_the_folder_of_all_objects(run: Run) -> None:
    trimesh = pytest.importorskip("trimesh")
    params = ObjectsParams(model_path="run", quiet=True, voxel_size=0.03, stereo="off")
    lines = write_objects(run, params)
    folder = run.folder / "objects"
    assert lines[-1] == f"{folder / 'gallery.html'} (2 objects)"
    rows = json.loads((folder / "objects.json").read_text())["objects"]
    assert [row["id"] for row in rows] == [7, 300]
    page = (folder / "gallery.html").read_text()
    for row in rows:
        assert set(row["files"]) == {"splats", "mesh", "hull"}
        for path in row["files"].values():
            assert (folder / path).is_file() and f'href="{path}"' in page
        assert len(from_file(folder / row["files"]["splats"])) == row["splats"] == DISCS
        radius = BALLS[row["id"]][1]
        hull = trimesh.load(folder / row["files"]["hull"], force="mesh")
        assert hull.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.3)
        np.testing.assert_allclose(row["size"], 2 * radius, rtol=0.05)
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_folder_without_meshes(run: Run) -> None:
    pytest.importorskip("trimesh")
    write_objects(run, ObjectsParams(model_path="run", quiet=True, mesh=False))
    rows = json.loads((run.folder / "objects/objects.json").read_text())["objects"]
    assert all(set(row["files"]) == {"splats", "hull"} for row in rows)


def test_the_flags_of_2dgs_are_taken() -> None:
    flags = "--mesh --voxel_size 0.01 --depth_trunc 3 --sdf_trunc 0.05 --num_cluster 1 --unbounded"
    params, overrides = parse_render_arguments(["-m", "run", *flags.split(), "--mesh_res", "512"])
    assert (params.voxel_size, params.depth_trunc, params.sdf_trunc) == (0.01, 3.0, 0.05)
    assert params.mesh and params.unbounded and params.mesh_res == 512 and params.num_cluster == 1
    assert not overrides
    assert not parse_render_arguments(["-m", "run", "--skip_mesh"])[0].mesh
    assert parse_objects_arguments(["-m", "run"]).mesh and params.stereo == "auto"
    assert exporting.FOLDER == "exports"


def test_missing_packages_are_named_before_anything_is_rendered(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    run.cameras = RunCameras((), ())
    with pytest.raises(UserError, match="pip install scikit-image trimesh"):
        scene_mesh(trained_objects(run), run.cameras.train, run.renderer, quick())


def test_many_pixels_are_compared_only_on_request(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    objects, cameras = trained_objects(run), run.cameras.train
    compared = []
    monkeypatch.setattr(meshing, "refined_views", lambda views, _: compared.append(1) or views)
    monkeypatch.setattr(meshing, "STEREO_PIXELS", 1000)
    with caplog.at_level("INFO"):
        scene_mesh(objects, cameras, run.renderer, quick("auto"))
    assert not compared and "--stereo on does it" in caplog.text
    scene_mesh(objects, cameras, run.renderer, quick("on"))
    assert len(compared) == 1
    monkeypatch.setattr(meshing, "STEREO_PIXELS", 10**9)
    scene_mesh(objects, cameras, run.renderer, quick("auto"))
    assert len(compared) == 2
