# SPDX-License-Identifier: Apache-2.0
"""PLY with objects: out and back, as another reader sees it, and through splat-transform."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData

from iqgs.export.converter import PROGRAM, convert
from iqgs.export.ply import write_ply
from iqgs.export.record import SplatArrays, from_file
from utils.errors import RunError, UserError

from .splats import ORIGIN, UP, some_splats


def with_column(splats: SplatArrays) -> SplatArrays:
    return replace(splats, extra={"heat": np.arange(len(splats), dtype=np.float32)})


@pytest.mark.parametrize("scales", [2, 3])
@pytest.mark.parametrize("as_3dgs", [False, True])
def test_out_and_back(tmp_path: Path, scales: int, as_3dgs: bool) -> None:
    splats = with_column(some_splats(scales=scales))
    write_ply(tmp_path / "s.ply", splats, as_3dgs)
    back = from_file(tmp_path / "s.ply")
    np.testing.assert_array_equal(back.labels, splats.labels)
    np.testing.assert_array_equal(back.confidence, splats.confidence)
    np.testing.assert_array_equal(back.extra["heat"], splats.extra["heat"])
    assert back.flat == (scales == 2)
    for name in ("means", "log_scales", "sh_dc", "sh_rest", "opacity_logits"):
        np.testing.assert_allclose(back.raw[name], splats.raw[name], atol=3e-6)
    assert back.frame.origin == splats.frame.origin
    assert back.frame.up == pytest.approx(UP)


def test_the_columns_and_comments(tmp_path: Path) -> None:
    write_ply(tmp_path / "plain.ply", some_splats(), as_3dgs=False)
    write_ply(tmp_path / "viewer.ply", some_splats(), as_3dgs=True)
    plain, viewer = (PlyData.read(tmp_path / f"{n}.ply") for n in ("plain", "viewer"))
    assert "scale_2" not in plain["vertex"] and "scale_2" in viewer["vertex"]
    for file in (plain, viewer):
        assert "SplatRenderMode: 2dgs" in file.comments
        assert file["vertex"]["instance"].dtype.kind in "iu"
        assert file["vertex"]["instance_conf"].dtype == np.float32
        assert any(comment.startswith("IQGS origin:") for comment in file.comments)


def test_rows_of_objects_follow_one_another() -> None:
    splats = replace(some_splats(), names={3: "cup", 300: "cup"})
    ordered, groups = splats.by_object()
    assert [(g.number, g.name) for g in groups] == [
        (3, "cup"),
        (300, "cup (300)"),
        (0, "no object"),
    ]
    for group in groups:
        assert (ordered.labels[group.rows] == group.number).all()
        wanted = splats.raw["means"][splats.labels == group.number]
        np.testing.assert_array_equal(ordered.raw["means"][group.rows], wanted)


def test_the_converter_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm install -g @playcanvas/splat-transform"):
        convert(tmp_path / "s.sog", some_splats())


def test_the_frame_is_stated_beside_packed_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that copies: what it gets is upright by what is said beside its output."""
    program = tmp_path / PROGRAM
    program.write_text(
        '#!/bin/sh\nfor last; do before=$here; here=$last; done\ncp "$before" "$last"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    splats = some_splats()
    convert(tmp_path / "s.sog", splats)
    stated = json.loads((tmp_path / "s.sog.json").read_text())["frame"]
    vertex = PlyData.read(tmp_path / "s.sog")["vertex"]
    places = np.stack([vertex[axis] for axis in "xyz"], axis=1).astype(np.float64)
    rotation = np.array(stated["rotation"]).reshape(3, 3)
    wanted = splats.raw["means"] + np.array(ORIGIN)
    np.testing.assert_allclose(places @ rotation + stated["origin"], wanted, atol=1e-5)
    np.testing.assert_allclose(rotation @ UP, [0, -1, 0], atol=1e-12)
    assert stated["up"] == "-Y"


def test_what_the_converter_says_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / PROGRAM
    program.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(RunError, match=r"s\.sog: splat-transform failed \(3\): out of luck"):
        convert(tmp_path / "s.sog", some_splats())
    assert not (tmp_path / "s.sog").exists()


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"{PROGRAM} (npm) is not installed")
@pytest.mark.parametrize("as_3dgs", [False, True])
def test_splat_transform_filters_by_instance(tmp_path: Path, as_3dgs: bool) -> None:
    splats = some_splats()
    write_ply(tmp_path / "s.ply", splats, as_3dgs)
    command = [PROGRAM, "-q", "-w", str(tmp_path / "s.ply"), "-V", "instance,eq,300"]
    subprocess.run([*command, str(tmp_path / "one.ply")], check=True)
    one = from_file(tmp_path / "one.ply")
    rows = splats.labels == 300
    assert (one.labels == 300).all() and len(one) == rows.sum()
    np.testing.assert_allclose(np.sort(one.confidence), np.sort(splats.confidence[rows]))


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"{PROGRAM} (npm) is not installed")
@pytest.mark.parametrize("suffix", ["sog", "spz", "compressed.ply", "html", "csv"])
def test_packed_forms(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"s.{suffix}"
    convert(path, some_splats(400))
    assert path.stat().st_size > 0
    if suffix in ("sog", "spz", "compressed.ply"):  # what it reads itself
        subprocess.run([PROGRAM, "-q", "-w", str(path), str(tmp_path / "back.ply")], check=True)
        assert len(from_file(tmp_path / "back.ply")) == 400
