# SPDX-License-Identifier: Apache-2.0
"""The glTF file as other readers see it: trimesh its points and nodes, pygltflib its structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from iqgs.export import glb
from iqgs.export.frames import UprightFrame
from iqgs.export.glb import write_glb
from utils.errors import UserError

from .splats import ORIGIN, UP, some_splats

SPLAT = "KHR_gaussian_splatting"


def attribute(document, mesh: int, name: str) -> np.ndarray:
    """An attribute [N, C] of a mesh by pygltflib's account of accessors and views."""
    index = getattr(document.meshes[mesh].primitives[0].attributes, name)
    accessor = document.accessors[index]
    view = document.bufferViews[accessor.bufferView]
    assert view.byteStride % 4 == 0  # glTF 2.0, 3.6.2.4: objects share views, so it must be there
    kind = {5126: "<f4", 5121: "u1"}[accessor.componentType]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor.type]
    assert view.byteStride == width * np.dtype(kind).itemsize
    start = view.byteOffset + accessor.byteOffset
    values = np.frombuffer(document.binary_blob(), kind, accessor.count * width, start)
    return values.reshape(accessor.count, width)


@pytest.mark.parametrize("scales", [2, 3])
def test_another_reader_finds_the_splats(tmp_path: Path, scales: int) -> None:
    pygltflib = pytest.importorskip("pygltflib")
    splats = some_splats(scales=scales)
    write_glb(tmp_path / "s.glb", splats)
    document = pygltflib.GLTF2().load(str(tmp_path / "s.glb"))
    nodes = {node.name: node for node in document.nodes}
    assert set(nodes) == {"splats", "cup", "object 300", "no object"}
    assert set(document.extensionsUsed) == {SPLAT, "EXT_mesh_features"}
    # z up becomes y up: (x, y, z) -> (x, z, -y)
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    for name, number in (("cup", 3), ("object 300", 300), ("no object", 0)):
        rows = splats.labels == number
        mesh = nodes[name].mesh
        assert nodes[name].extras == {"instance": number, "splats": int(rows.sum())}
        assert document.meshes[mesh].primitives[0].mode == 0
        place = attribute(document, mesh, "POSITION")
        np.testing.assert_allclose(place, splats.raw["means"][rows] @ turn.T, atol=1e-6)
        accessor = document.accessors[document.meshes[mesh].primitives[0].attributes.POSITION]
        np.testing.assert_array_equal(accessor.min, place.min(axis=0).astype(float))
        sizes = attribute(document, mesh, f"{SPLAT}:SCALE")
        np.testing.assert_allclose(
            sizes[:, :scales], np.exp(splats.raw["log_scales"][rows]), rtol=1e-6
        )
        assert scales == 3 or (sizes[:, 2] < 2e-6).all()
        wxyz = splats.raw["quaternions"][rows]
        wanted = Rotation.from_matrix(turn) * Rotation.from_quat(wxyz[:, [1, 2, 3, 0]])
        found = Rotation.from_quat(attribute(document, mesh, f"{SPLAT}:ROTATION"))
        assert (found.inv() * wanted).magnitude().max() < 1e-6
        seen = attribute(document, mesh, f"{SPLAT}:OPACITY")
        np.testing.assert_allclose(
            seen, 1 / (1 + np.exp(-splats.raw["opacity_logits"][rows])), atol=1e-6
        )
        sure = attribute(document, mesh, "_INSTANCE_CONF")
        np.testing.assert_array_equal(sure[:, 0], splats.confidence[rows])
        assert (attribute(document, mesh, "_FEATURE_ID_0") == number).all()


def test_colours_turn_with_the_scene(tmp_path: Path) -> None:
    """Degree 1, by hand: the coefficients of (-y, z, -x) turn like a vector."""
    pygltflib = pytest.importorskip("pygltflib")
    splats = some_splats(degree=1).only([3])
    write_glb(tmp_path / "s.glb", splats)
    document = pygltflib.GLTF2().load(str(tmp_path / "s.glb"))
    first, second, third = (
        attribute(document, 0, f"{SPLAT}:SH_DEGREE_1_COEF_{i}") for i in range(3)
    )
    rest = splats.raw["sh_rest"]
    y, z, x = -rest[:, 0], rest[:, 1], -rest[:, 2]
    np.testing.assert_allclose([-third, -first, second], [x, z, -y], atol=1e-6)


def test_a_reader_of_points_sees_linear_colours(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    splats = some_splats()
    write_glb(tmp_path / "s.glb", splats)
    scene = trimesh.load(tmp_path / "s.glb")
    assert set(scene.geometry) == {"cup", "object 300", "no object"}
    cup = scene.geometry["cup"]
    rows = splats.labels == 3
    assert len(cup.vertices) == rows.sum()
    encoded = np.clip(0.5 + 0.28209479 * splats.raw["sh_dc"][rows, 0], 0, 1)
    wanted = np.where(encoded > 0.04045, ((encoded + 0.055) / 1.055) ** 2.4, encoded / 12.92)
    assert np.abs(cup.colors[:, :3] / 255 - wanted).max() < 1 / 200


def test_the_frame_is_stated(tmp_path: Path) -> None:
    pygltflib = pytest.importorskip("pygltflib")
    splats = some_splats()
    write_glb(tmp_path / "s.glb", splats)
    document = pygltflib.GLTF2().load(str(tmp_path / "s.glb"))
    stated = document.asset.extras["frame"]
    rotation = np.array(stated["rotation"]).reshape(3, 3)
    place = attribute(document, 0, "POSITION").astype(np.float64)
    in_files = place @ rotation + stated["origin"]
    wanted = splats.raw["means"][splats.labels == 3] + np.array(ORIGIN)
    np.testing.assert_allclose(in_files, wanted, atol=1e-5)
    np.testing.assert_allclose(rotation @ UP, [0, 1, 0], atol=1e-12)


def test_without_a_known_up_the_photographs_say(tmp_path: Path) -> None:
    from scene.frame import SceneFrame

    frame = UprightFrame.of(SceneFrame())
    np.testing.assert_array_equal(frame.rotation @ [0, -1, 0], [0, 1, 0])
    assert frame.described()["up_known"] is False


def test_too_many_splats_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glb, "LARGEST", 1000)
    with pytest.raises(UserError, match=r"s\.glb: 40 splats .* --id"):
        write_glb(tmp_path / "s.glb", some_splats())
    assert not list(tmp_path.iterdir())
