# SPDX-License-Identifier: Apache-2.0
"""Dialects of splat files: what each holds, what is said about it, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scene.frame import SceneFrame
from scene.splat_files.columns import to_columns
from scene.splat_files.splat_file import (
    OPAQUE_LOGIT,
    flattened,
    read_discs,
    read_kind,
    read_splats,
    write_splats,
)
from tests.scene.splat_files.formula import discs
from utils.errors import FormatError
from utils.ply import read_ply, write_ply


def written(path: Path, columns: dict, **changes: np.ndarray | None) -> Path:
    """A PLY of `columns` with some replaced or added; None removes one."""
    merged = {name: value for name, value in (columns | changes).items() if value is not None}
    write_ply(path, merged)
    return path


def same(raw: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return raw.keys() == other.keys() and all(np.array_equal(raw[n], other[n]) for n in raw)


def test_two_scales_come_back_to_the_bit(tmp_path: Path) -> None:
    raw = discs(degree=3, instance=5)
    write_splats(tmp_path / "a.ply", raw)
    file = read_splats(tmp_path / "a.ply")
    assert same(file.raw, raw) and file.kind == "2dgs" and len(file) == 270
    assert file.notices == () and file.labels is None and file.extra == {} and file.frame is None


def test_columns_in_another_order_doubles_and_no_normals(tmp_path: Path) -> None:
    raw = discs(instance=2)
    columns = {name: column.astype(np.float64) for name, column in to_columns(raw).items()}
    shuffled = dict(sorted(columns.items(), key=lambda item: item[0][::-1]))
    path = written(tmp_path / "a.ply", shuffled, nx=None, ny=None, nz=None)
    assert same(read_splats(path).raw, raw)


def test_columns_that_nobody_knows_make_the_round_trip(tmp_path: Path) -> None:
    raw, labels = discs(), np.arange(270) % 7
    extra = {
        "time": np.linspace(0, 1e300, 270),
        "mark": np.arange(270, dtype=np.uint8) % 200,
        "scale": np.arange(270, dtype=np.float32),
    }
    write_splats(tmp_path / "a.ply", raw, labels=labels, extra=extra)
    file = read_splats(tmp_path / "a.ply")
    assert list(file.extra) == list(extra) and np.array_equal(file.labels, labels)
    for name, column in extra.items():
        assert file.extra[name].dtype == column.dtype
        assert np.array_equal(file.extra[name], column)
    write_splats(tmp_path / "b.ply", file.raw, labels=file.labels, extra=file.extra)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
    with pytest.raises(ValueError, match="named like those of splats"):
        write_splats(tmp_path / "c.ply", raw, extra={"opacity": np.zeros(270)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint32, np.int16, np.uint8])
def test_labels_of_any_type_are_ids(tmp_path: Path, dtype: type) -> None:
    labels = (np.arange(270) % 250).astype(dtype)
    file = read_splats(written(tmp_path / "a.ply", to_columns(discs()), instance=labels))
    assert file.labels is not None and file.labels.dtype == np.int32
    assert np.array_equal(file.labels, labels) and file.extra == {}


@pytest.mark.parametrize("value", [0.5, np.nan, 1e20])
def test_a_column_of_that_name_without_ids_is_kept_aside(tmp_path: Path, value: float) -> None:
    column = np.zeros(270, np.float32)
    column[3] = value
    file = read_splats(written(tmp_path / "a.ply", to_columns(discs()), instance=column))
    assert file.labels is None and list(file.extra) == ["instance"]


def test_rows_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    raw = discs(degree=1)
    columns = {name: column.copy() for name, column in to_columns(raw).items()}
    columns["x"][0] = np.nan
    columns["f_rest_8"][5] = np.inf
    columns["scale_1"][9] = -np.inf
    columns["opacity"][11] = np.nan
    columns["scale_0"][13] = 500.0  # e^500
    for i in range(4):
        columns[f"rot_{i}"][17] = 0.0
        columns[f"rot_{i}"][19] = 1e30
    columns["nx"][20] = np.nan  # nobody reads normals
    columns["y"] = columns["y"].astype(np.float64)
    columns["y"][23] = 1e60
    file = read_splats(written(tmp_path / "a.ply", columns, instance=np.arange(270)))
    bad = [0, 5, 9, 11, 13, 17, 19, 23]
    assert file.labels is not None
    assert file.labels.tolist() == [i for i in range(270) if i not in bad]
    good = np.delete(np.arange(270), bad)
    assert same(file.raw, {name: array[good] for name, array in raw.items()})
    path = tmp_path / "a.ply"
    assert file.notices == (f"{path}: 8 of 270 splats are not finite and are left out",)


def test_a_file_without_a_usable_row_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ply", to_columns(discs()), x=np.full(270, np.nan))
    with pytest.raises(FormatError, match=r"a.ply: none of the 270 splats"):
        read_splats(path)


def test_infinities_that_tools_write_have_a_meaning(tmp_path: Path) -> None:
    """splat-transform writes opacity 1 as an infinite logit and a missing third scale as -inf."""
    columns = to_columns(discs(), viewer=True)
    opacity = columns["opacity"].copy()
    opacity[:2] = np.inf, -np.inf
    flat = np.full(270, -np.inf)
    file = read_splats(written(tmp_path / "a.ply", columns, opacity=opacity, scale_2=flat))
    assert len(file) == 270 and file.kind == "2dgs"
    assert file.raw["opacity_logits"][:2, 0].tolist() == [OPAQUE_LOGIT, -OPAQUE_LOGIT]
    assert len(file.notices) == 1 and "read as discs" in file.notices[0]


def test_degree_4_is_cut(tmp_path: Path) -> None:
    raw = discs(degree=3)
    fourth = np.random.default_rng(0).normal(size=(270, 9, 3)).astype(np.float32)
    wide = {**raw, "sh_rest": np.concatenate([raw["sh_rest"], fourth], axis=1)}
    file = read_splats(written(tmp_path / "a.ply", to_columns(wide)))
    assert same(file.raw, raw) and "degree 4" in file.notices[0]


@pytest.mark.fault(row=32)
def test_true_3d_gaussians_are_told_from_discs(tmp_path: Path) -> None:
    raw = discs(scales=3, degree=2)
    path = written(tmp_path / "a.ply", to_columns(raw))
    file = read_splats(path)
    assert file.kind == "3dgs" and same(file.raw, raw) and file.notices == ()
    with pytest.raises(FormatError, match=r"a.ply: holds 3D Gaussians .*--flatten_ply"):
        read_discs(path)
    flat = read_discs(path, flatten=True)
    assert flat.kind == "2dgs" and flat.raw["log_scales"].shape == (270, 2)
    shortest = raw["log_scales"].min(axis=1, keepdims=True)
    kept = np.sort(raw["log_scales"], axis=1)[:, 1:]
    assert np.array_equal(np.sort(flat.raw["log_scales"], axis=1), kept)
    assert (flat.raw["log_scales"] >= shortest).all()
    assert len(flat.notices) == 1 and "shortest axis of each of 270" in flat.notices[0]
    assert flattened(flat, "a.ply") is flat


def test_a_cloud_of_points_is_called_so(tmp_path: Path) -> None:
    names = ("x", "y", "z", "nx", "ny", "nz")
    cloud = {name: np.zeros(4, np.float32) for name in names}
    cloud |= {name: np.zeros(4, np.uint8) for name in ("red", "green", "blue")}
    write_ply(tmp_path / "a.ply", cloud)
    with pytest.raises(FormatError, match=r"a.ply: is a cloud of points and not splats"):
        read_splats(tmp_path / "a.ply")


@pytest.mark.fault(row=31)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opacity": None}, "'opacity' is missing"),
        ({"f_rest_8": None}, "8 f_rest columns"),
        ({"f_rest_3": None, "f_rest_9": np.zeros(270)}, "'f_rest_3' is missing"),
        ({"rot_3": None}, "'rot_3' is missing"),
        ({"f_dc_0": None}, "'f_dc_0' is missing"),
        ({"scale_1": None}, "got 1 scales"),
        ({"scale_0": None, "scale_2": np.zeros(270)}, "'scale_0' is missing"),
        ({"scale_2": np.zeros(270), "scale_3": np.zeros(270)}, "got 4 scales"),
        ({"y": None}, "'y' is missing"),
        ({"obj_dc_0": np.zeros(270), "obj_dc_2": np.zeros(270)}, "'obj_dc_1' is missing"),
    ],
)
def test_damaged_splat_files(tmp_path: Path, changes: dict, message: str) -> None:
    path = written(tmp_path / "a.ply", to_columns(discs()), **changes)
    with pytest.raises(FormatError, match=f"a.ply: .*{message}"):
        read_splats(path)


def test_coordinates_too_large_for_their_splats_are_noticed(tmp_path: Path) -> None:
    columns = to_columns(discs())
    east = columns["x"].astype(np.float64) + 5e6
    file = read_splats(written(tmp_path / "a.ply", columns, x=east))
    assert len(file.notices) == 1 and "kept in steps of 0.5" in file.notices[0]
    assert read_splats(written(tmp_path / "b.ply", columns, x=east - 5e6)).notices == ()


def test_labels_are_named_in_the_header(tmp_path: Path) -> None:
    write_splats(tmp_path / "a.ply", discs(), labels=np.arange(270))
    assert any("instance is the id" in line for line in read_splats(tmp_path / "a.ply").comments)
    assert read_ply(tmp_path / "a.ply")["instance"].dtype == np.int32


def test_a_program_of_ellipsoids_takes_them_as_they_are(tmp_path: Path) -> None:
    raw = discs(scales=3, degree=2)
    path = written(tmp_path / "a.ply", to_columns(raw))
    assert same(read_kind(path, "3dgs").raw, raw)
    with pytest.raises(FormatError, match=r"a.ply: holds 3D Gaussians .* --primitive 3dgs"):
        read_kind(path, "2dgs")
    assert read_kind(path, "2dgs", flatten=True).kind == "2dgs"


def test_ellipsoids_may_be_as_flat_as_discs(tmp_path: Path) -> None:
    """Flatness that was learned differs from splat to splat; only a written one is a disc's."""
    raw = discs(scales=3)
    raw["log_scales"][:, 1] = raw["log_scales"][:, [0, 2]].min(axis=1) - 7.0
    write_splats(tmp_path / "a.ply", raw)
    file = read_kind(tmp_path / "a.ply", "3dgs")
    assert same(file.raw, raw) and file.kind == "3dgs" and file.notices == ()
    assert read_splats(tmp_path / "a.ply").kind == "2dgs"


@pytest.mark.parametrize("dialect", ["plain", "viewer", "edited"])
def test_discs_are_no_ellipsoids(tmp_path: Path, dialect: str) -> None:
    raw = discs()
    write_splats(tmp_path / "a.ply", raw, viewer=dialect != "plain")
    if dialect == "edited":  # an editor keeps the columns and drops the comments
        write_ply(tmp_path / "a.ply", read_ply(tmp_path / "a.ply"))
    with pytest.raises(FormatError, match=r"a.ply: holds discs .*--primitive 2dgs"):
        read_kind(tmp_path / "a.ply", "3dgs")


def test_the_viewers_file_of_ellipsoids_does_not_call_them_discs(tmp_path: Path) -> None:
    raw, frame = discs(scales=3), SceneFrame((3.0, 0.0, 1.0), (0.0, 0.0, 1.0))
    write_splats(tmp_path / "a.ply", raw, viewer=True, frame=frame)
    file = read_kind(tmp_path / "a.ply", "3dgs")
    assert not any("2d" in comment.lower() for comment in file.comments)
    np.testing.assert_allclose(file.raw["means"], raw["means"], atol=1e-5)
    assert np.array_equal(file.raw["log_scales"], raw["log_scales"])
