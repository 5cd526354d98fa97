# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData

from scene.frame import SceneFrame
from scene.gaussian_model import (
    GaussianModel,
    random_rotations,
    rotation_matrices,
)
from scene.parameters import PARAMETER_NAMES
from scene.points import PointCloud
from utils.errors import DataError, FormatError
from utils.ply import read_ply, write_ply
from utils.spherical_harmonics import evaluate


def cloud(n: int, seed: int = 0) -> PointCloud:
    generator = torch.Generator().manual_seed(seed)
    return PointCloud(torch.rand(n, 3, generator=generator), torch.rand(n, 3, generator=generator))


def make_model(
    n: int = 20, sh_degree: int = 2, instance_dim: int = 4, scale_dims: int = 2
) -> GaussianModel:
    generator = torch.Generator().manual_seed(1)
    model = GaussianModel.from_points(
        cloud(n), sh_degree, instance_dim, generator, scale_dims=scale_dims
    )
    for parameter in model.params.values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def same(a: GaussianModel, b: GaussianModel) -> bool:
    return all(torch.equal(a.params[n], b.params[n]) for n in PARAMETER_NAMES)


def test_from_points_shapes_colours_and_opacity() -> None:
    points = cloud(30)
    model = GaussianModel.from_points(points, 3, 16, torch.Generator().manual_seed(0))
    shapes = {n: tuple(p.shape) for n, p in model.params.items()}
    assert shapes == {
        "means": (30, 3), "log_scales": (30, 2), "quaternions": (30, 4), "opacity_logits": (30, 1),
        "sh_dc": (30, 1, 3), "sh_rest": (30, 15, 3), "instance": (30, 16),
    }  # fmt: skip
    assert len(model) == 30 and model.sh.shape == (30, 16, 3) and model.sh_degree == 3
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.params.values())
    torch.testing.assert_close(evaluate(model.sh, torch.randn(30, 3), 0), points.colors)
    torch.testing.assert_close(model.opacities, torch.full((30, 1), 0.1))
    assert 0.05 < float(model.instance.detach().std()) < 0.15


def test_scales_are_the_root_mean_square_distance_to_three_neighbours() -> None:
    points = cloud(40)
    squared = torch.cdist(points.positions.double(), points.positions.double()).square()
    squared.fill_diagonal_(float("inf"))
    expected = squared.sort(dim=1).values[:, :3].mean(dim=1).sqrt().float()
    model = GaussianModel.from_points(points, 0, 0, torch.Generator())
    torch.testing.assert_close(model.scales, expected[:, None].repeat(1, 2))


@pytest.mark.fault(row=30)
@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_few_or_coinciding_points_give_finite_scales(n: int) -> None:
    points = PointCloud(torch.full((n, 3), 2.0), torch.rand(n, 3))
    model = GaussianModel.from_points(points, 1, 2, torch.Generator())
    assert model.params["log_scales"].isfinite().all() and (model.scales > 0).all()


@pytest.mark.fault(row=29)
def test_no_points_is_a_data_error() -> None:
    with pytest.raises(DataError, match="--random_init"):
        GaussianModel.from_points(cloud(0), 0, 0, torch.Generator())


def test_rotations_are_uniform() -> None:
    """Under the uniform measure the trace moments are E tr R = 0 and E (tr R)^2 = 1, and the
    rotated axis is uniform on the sphere; quaternions uniform in [0, 1]^4 fail all of these."""
    matrices = rotation_matrices(random_rotations(40_000, torch.Generator().manual_seed(0)))
    trace = matrices.diagonal(dim1=1, dim2=2).sum(dim=1)
    assert abs(float(trace.mean())) < 0.02 and abs(float(trace.square().mean()) - 1) < 0.03
    normals = matrices[:, :, 2]
    torch.testing.assert_close(normals.T @ normals / 40_000, torch.eye(3) / 3, atol=0.01, rtol=0)
    assert float(normals.mean(dim=0).norm()) < 0.02


def test_rotation_matrices_equal_the_quaternion_product() -> None:
    """R v is the vector part of q (0, v) q* (Hamilton), here by explicit multiplication."""
    generator = torch.Generator().manual_seed(2)
    q, v = torch.randn(10, 4, generator=generator), torch.randn(10, 3, generator=generator)
    unit = torch.nn.functional.normalize(q, dim=-1)
    w, u = unit[:, :1], unit[:, 1:]
    rotated = v + 2 * torch.linalg.cross(u, torch.linalg.cross(u, v) + w * v)
    torch.testing.assert_close((rotation_matrices(q) @ v[..., None])[..., 0], rotated)


def test_frame_is_orthonormal() -> None:
    model = make_model()
    frame = torch.cat([model.axes(), model.normals()[..., None]], dim=2)
    torch.testing.assert_close(frame.mT @ frame, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(frame), torch.ones(20))


def test_ellipsoids_have_three_axes_and_the_shortest_is_their_normal() -> None:
    model = make_model(scale_dims=3)
    assert (model.kind, make_model().kind) == ("3dgs", "2dgs")
    axes, scales, normals = model.axes(), model.scales.detach(), model.normals()
    torch.testing.assert_close(axes.mT @ axes, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    shortest = [int(row.argmin()) for row in scales]
    assert len(set(shortest)) == 3
    for row, axis in enumerate(shortest):
        assert torch.equal(normals[row], axes[row, :, axis])
    with pytest.raises(ValueError, match="two scales or three, got 4"):
        make_model(scale_dims=4)


@pytest.mark.parametrize("scales", [2, 3])
def test_ply_has_the_columns_of_2dgs_and_3dgs(tmp_path: Path, scales: int) -> None:
    model = make_model(n=3, sh_degree=3, instance_dim=16, scale_dims=scales)
    model.save_ply(tmp_path / "a.ply")
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3))]
    names += [f"f_rest_{i}" for i in range(45)] + ["opacity"]
    names += [f"scale_{i}" for i in range(scales)]
    names += [f"rot_{i}" for i in range(4)] + [f"obj_dc_{i}" for i in range(16)]
    expected = "".join(f"property float {name}\n" for name in names)
    start = "ply\nformat binary_little_endian 1.0\nelement vertex 3\n"
    assert header.decode() == start + expected
    rows = np.frombuffer(body, "<f4").reshape(3, len(names))
    p = {n: v.detach().numpy() for n, v in model.params.items()}
    by_channel = [p["sh_rest"][:, k, c] for c in range(3) for k in range(15)]
    flat = [p["means"], np.zeros((3, 3)), p["sh_dc"][:, 0], np.stack(by_channel, axis=1)]
    flat += [p["opacity_logits"], p["log_scales"], p["quaternions"], p["instance"]]
    assert np.array_equal(rows, np.concatenate(flat, axis=1).astype(np.float32))


@pytest.mark.parametrize("scales", [2, 3])
@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_ply_round_trip(tmp_path: Path, sh_degree: int, scales: int) -> None:
    model = make_model(sh_degree=sh_degree, scale_dims=scales)
    model.save_ply(tmp_path / "a.ply")
    loaded = GaussianModel.load_ply(tmp_path / "a.ply", instance_dim=4, kind=model.kind)
    assert same(model, loaded)
    assert loaded.sh_degree == loaded.active_sh_degree == sh_degree


def test_viewer_ply(tmp_path: Path) -> None:
    model = make_model()
    labels = torch.arange(20) % 3
    model.save_ply(tmp_path / "v.ply", viewer=True, instance=labels)
    vertex = PlyData.read(tmp_path / "v.ply")["vertex"]
    names = [p.name for p in vertex.properties]
    assert names[names.index("scale_1") + 1] == "scale_2" and names[-1] == "instance"
    assert not any(name.startswith("obj_") for name in names)
    assert vertex["instance"].dtype == np.int32 and vertex["instance"].tolist() == labels.tolist()
    np.testing.assert_allclose(vertex["scale_2"], np.log(1e-6), rtol=1e-6)
    assert GaussianModel.load_ply(tmp_path / "v.ply").params["log_scales"].shape == (20, 2)
    with pytest.raises(ValueError, match="integer labels"):
        model.save_ply(tmp_path / "v.ply", instance=torch.ones(20))


def _edited_ply(path: Path, **changes: np.ndarray | None) -> Path:
    """Save a model and rewrite its columns: None removes one."""
    make_model().save_ply(path)
    columns = {**read_ply(path), **{k: v for k, v in changes.items() if v is not None}}
    write_ply(path, {k: v for k, v in columns.items() if changes.get(k, 0) is not None})
    return path


def test_dialect_of_omegas(tmp_path: Path) -> None:
    columns = {f"obj_dc_{i}": None for i in range(4)}
    extra = {f"obj_{i}": np.full(20, i, np.float32) for i in range(8)}
    model = GaussianModel.load_ply(_edited_ply(tmp_path / "a.ply", **columns, **extra))
    assert model.instance.tolist() == [list(range(8))] * 20


def test_dialect_of_2dgs_has_no_attributes(tmp_path: Path) -> None:
    path = _edited_ply(tmp_path / "a.ply", **{f"obj_dc_{i}": None for i in range(4)})
    assert GaussianModel.load_ply(path).instance.shape == (20, 0)
    generator = torch.Generator().manual_seed(0)
    attributes = GaussianModel.load_ply(path, 6, generator).instance
    assert attributes.shape == (20, 6) and float(attributes.detach().std()) > 0.05
    assert (GaussianModel.load_ply(path, 6).instance == 0).all()


@pytest.mark.fault(row=32)
def test_three_scales_are_refused_or_made_flat(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thickness = np.linspace(-5, -4, 20, dtype=np.float32)
    path = _edited_ply(tmp_path / "gg.ply", scale_2=thickness)
    with pytest.raises(FormatError, match="--flatten_ply"):
        GaussianModel.load_ply(path)
    model = GaussianModel.load_ply(path, flatten=True)
    assert same(model, make_model())
    assert len(caplog.messages) == 1 and "made flat" in caplog.messages[0]


def test_the_frame_asked_for_moves_the_splats(tmp_path: Path) -> None:
    model = make_model()
    model.save_ply(tmp_path / "a.ply", frame=SceneFrame((7.0, 0.0, 0.0)))
    moved = GaussianModel.load_ply(tmp_path / "a.ply", frame=SceneFrame((5.0, 0.0, 0.0)))
    torch.testing.assert_close(moved.means, model.means + torch.tensor([2.0, 0, 0]))
    assert same(GaussianModel.load_ply(tmp_path / "a.ply"), model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opacity": None}, "'opacity' is missing"),
        ({"f_rest_23": None}, "23 f_rest columns"),
        ({"f_rest_3": None}, "f_rest"),
        ({"rot_3": None}, "'rot_3' is missing"),
        ({"scale_1": None}, "got 1 scales"),
        ({"x": np.full(20, np.nan)}, "none of the 20 splats"),
        ({f"rot_{i}": np.zeros(20) for i in range(4)}, "none of the 20 splats"),
        ({"obj_dc_1": None}, "obj_dc"),
    ],
)
def test_damaged_splat_files(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        GaussianModel.load_ply(_edited_ply(tmp_path / "a.ply", **changes))


def test_other_number_of_channels_is_refused_with_both(tmp_path: Path) -> None:
    make_model().save_ply(tmp_path / "a.ply")
    with pytest.raises(DataError, match=r"has 4 instance channels, but 16"):
        GaussianModel.load_ply(tmp_path / "a.ply", 16)


def test_a_file_without_splats(tmp_path: Path) -> None:
    make_model().subset(torch.zeros(20, dtype=torch.bool)).save_ply(tmp_path / "a.ply")
    with pytest.raises(FormatError, match="no splats"):
        GaussianModel.load_ply(tmp_path / "a.ply")


def test_subset_copies_the_chosen_rows() -> None:
    model = make_model()
    part = model.subset(torch.arange(20) % 2 == 1)
    assert all(torch.equal(part.params[n], model.params[n][1::2]) for n in PARAMETER_NAMES)
    part.params["means"].data.zero_()
    assert model.means.abs().sum() > 0


def test_state_round_trip_of_another_size() -> None:
    model = make_model()
    model.raise_sh_degree()
    other = make_model(n=5)
    other.load_state_dict(model.state_dict())
    assert same(model, other) and other.active_sh_degree == 1
    other.params["means"].data.zero_()
    assert model.means.abs().sum() > 0  # copied, not shared
    assert same(GaussianModel.from_state_dict(model.state_dict()), model)


@pytest.mark.parametrize("damage", ["missing", "shape", "degree", "type"])
def test_foreign_state_is_refused(damage: str) -> None:
    state = make_model().state_dict()
    params = dict(state["params"])
    if damage == "missing":
        del params["means"]
    elif damage == "shape":
        params["means"] = params["means"][:-1]
    elif damage == "degree":
        params["sh_rest"] = params["sh_rest"][:, :5]
    else:
        params["means"] = [1, 2, 3]
    with pytest.raises(DataError, match="do not fit"):
        make_model().load_state_dict({**state, "params": params})


def test_degree_rises_to_its_end() -> None:
    model = make_model(sh_degree=2)
    seen = []
    for _ in range(4):
        seen.append(model.active_sh_degree)
        model.raise_sh_degree()
    assert seen == [0, 1, 2, 2]


def test_moving_keeps_values_and_gradients_on() -> None:
    model = make_model()
    moved = make_model().to("cpu")
    assert same(model, moved) and all(p.requires_grad for p in moved.params.values())
    assert moved.device.type == "cpu"
