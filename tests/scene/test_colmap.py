# SPDX-License-Identifier: Apache-2.0
"""The COLMAP readers against hand-made bytes, against the writers, and against damaged files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scene.readers.colmap import (
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    find_colmap_folder,
    read_colmap_model,
    write_colmap_model,
)
from utils.errors import DataError, FormatError

REAL = Path(__file__).parents[2].parent / "shared" / "data"
S = 0.5**0.5


def camera_bytes(model: int = 1, size: tuple[int, int] = (8, 6), f: float = 5.0) -> bytes:
    params = {0: 3, 1: 4, 4: 8, 2: 4}.get(model, 4)
    values = (f, f, 4.0, 3.0)[-params:] if params < 5 else (f, f, 4.0, 3.0, 0.1, 0.0, 0.0, 0.0)
    return struct.pack("<IiQQ", 1, model, *size) + struct.pack(f"<{len(values)}d", *values)


def image_bytes(
    number: int = 1, name: bytes = b"a.png", q: tuple[float, ...] = (S, S, 0, 0), x: float = 1.0
) -> bytes:
    observations = struct.pack("<Q", 2) + struct.pack("<ddqddq", 1.5, 2.5, 7, 3.0, 4.0, -1)
    return struct.pack("<I7dI", number, *q, x, 2.0, 3.0, 1) + name + b"\0" + observations


def point_bytes(number: int = 7, x: float = 0.25, track: int = 2) -> bytes:
    head = struct.pack("<Q3d3Bd", number, x, -1.0, 2.0, 255, 128, 0, 0.5)
    return head + struct.pack("<Q", track) + struct.pack("<II", 1, 0) * track


def counted(*records: bytes) -> bytes:
    return struct.pack("<Q", len(records)) + b"".join(records)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hand-made model: one camera, two images, three points with tracks of 2, 0 and 5."""
    (tmp_path / "cameras.bin").write_bytes(counted(camera_bytes()))
    (tmp_path / "images.bin").write_bytes(counted(image_bytes(), image_bytes(2, b"sub/b.png")))
    points = counted(point_bytes(), point_bytes(9, 0.5, 0), point_bytes(8, 0.75, 5))
    (tmp_path / "points3D.bin").write_bytes(points)
    return tmp_path


@pytest.fixture
def text_folder(tmp_path: Path) -> Path:
    """The same model as text, written by hand as COLMAP does."""
    (tmp_path / "cameras.txt").write_text("# list\n1 PINHOLE 8 6 5 5.0 4 3\n")
    rows = [f"{i} {S!r} {S!r} 0 0 1 2 3 1 {n}" for i, n in ((1, "a.png"), (2, "sub/b.png"))]
    (tmp_path / "images.txt").write_text(f"# list\n{rows[0]}\n1.5 2.5 7 3 4 -1\n{rows[1]}\n\n")
    (tmp_path / "points3D.txt").write_text(
        "# list\n7 0.25 -1 2 255 128 0 0.5 1 0 1 0\n9 0.5 -1 2 255 128 0 0.5\n"
        "8 0.75 -1 2 255 128 0 0.5 1 0\n"
    )
    return tmp_path


@pytest.mark.parametrize("kind", ["folder", "text_folder"])
def test_reads_hand_made_files(kind: str, request: pytest.FixtureRequest) -> None:
    model = read_colmap_model(request.getfixturevalue(kind))
    camera = model.cameras[1]
    assert (camera.model, camera.width, camera.height) == ("PINHOLE", 8, 6)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (5, 5, 4, 3)
    assert [image.name for image in model.images] == ["a.png", "sub/b.png"]
    # A quarter turn about x takes y to z: the world's (0, 1, 0) lies at (1, 2, 3 + 1).
    moved = model.images[0].world_to_view() @ [0, 1, 0, 1]
    np.testing.assert_allclose(moved, [1, 2, 4, 1], atol=1e-12)
    assert model.points is not None
    np.testing.assert_array_equal(model.points.positions[:, 0], [0.25, 0.5, 0.75])
    np.testing.assert_array_equal(model.points.colors, [[255, 128, 0]] * 3)


def test_simple_pinhole_has_one_focal_length(folder: Path) -> None:
    record = struct.pack("<IiQQ3d", 1, 0, 8, 6, 5.0, 4.25, 3.0)
    (folder / "cameras.bin").write_bytes(counted(record + bytes(0)))
    camera = read_colmap_model(folder).cameras[1]
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (5, 5, 4.25, 3)


@pytest.mark.parametrize("binary", [True, False])
def test_writer_and_reader_agree_to_the_bit(tmp_path: Path, binary: bool) -> None:
    rng = np.random.default_rng(3)
    cameras = [
        ColmapCamera(4, "PINHOLE", 99, 77, tuple(rng.uniform(20, 90, 4))),
        ColmapCamera(9, "SIMPLE_PINHOLE", 640, 480, (500.1, 320.3, 239.7)),
    ]
    images = []
    for index in range(6):
        x, y, z, w = (float(v) for v in Rotation.random(random_state=index).as_quat())
        t = tuple(float(v) for v in rng.normal(size=3))
        images.append(
            ColmapImage(
                10 + index,
                f"räume/{index} b.png",
                (4, 9)[index % 2],
                (w, x, y, z),
                (t[0], t[1], t[2]),
            )
        )
    points = ColmapPoints(rng.normal(size=(40, 3)), rng.integers(0, 256, (40, 3)).astype("u1"))
    write_colmap_model(tmp_path, cameras, images, points, binary=binary)
    model = read_colmap_model(tmp_path)
    assert list(model.cameras.values()) == cameras
    assert model.points is not None
    np.testing.assert_array_equal(model.points.positions, points.positions)
    np.testing.assert_array_equal(model.points.colors, points.colors)
    for read, image in zip(model.images, images, strict=True):
        assert (read.id, read.name, read.camera_id) == (image.id, image.name, image.camera_id)
        assert read.translation == image.translation
        w, x, y, z = image.quaternion
        expected = Rotation.from_quat([x, y, z, w]).as_matrix()
        np.testing.assert_allclose(read.world_to_view()[:3, :3], expected, atol=1e-14)


def test_binary_wins_over_text_and_is_never_passed_over(folder: Path) -> None:
    (folder / "cameras.txt").write_text("1 PINHOLE 100 100 5 5 4 3\n")
    (folder / "images.txt").write_text("1 1 0 0 0 1 2 3 1 text.png\n\n")
    assert read_colmap_model(folder).cameras[1].width == 8
    (folder / "cameras.bin").write_bytes(b"damaged!")
    with pytest.raises(FormatError, match="cameras.bin"):
        read_colmap_model(folder)


def test_missing_files_are_named(tmp_path: Path, folder: Path) -> None:
    (folder / "points3D.bin").unlink()
    assert read_colmap_model(folder).points is None
    (folder / "cameras.bin").unlink()
    with pytest.raises(DataError, match=r"cameras\.bin"):
        read_colmap_model(folder)
    assert find_colmap_folder(tmp_path / "nothing", "", []) is None


@pytest.mark.fault(row=26)
@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_truncated_at_every_byte_and_trailing(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for length in range(len(whole)):
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(FormatError, match=rf"{name} at byte \d+"):
            read_colmap_model(folder)
    for extra in (b"\0", b"\0" * 8, whole):
        (folder / name).write_bytes(whole + extra)
        with pytest.raises(FormatError, match="too many"):
            read_colmap_model(folder)


NAN = float("nan")
BINARY_FAULTS = {
    "count bomb of cameras": (
        "cameras.bin",
        struct.pack("<Q", 2**40) + camera_bytes(),
        "cameras needs",
    ),
    "count bomb of images": ("images.bin", struct.pack("<Q", 2**40) + image_bytes(), "images"),
    "count bomb of points": ("points3D.bin", struct.pack("<Q", 2**62) + point_bytes(), "points"),
    "track bomb": (
        "points3D.bin",
        counted(point_bytes()[:-24] + struct.pack("<3Q", 2**61, 0, 0)),
        "point number 1",
    ),
    "observation bomb": (
        "images.bin",
        counted(image_bytes()[:-56] + struct.pack("<7Q", 2**60, *[0] * 6)),
        "observations",
    ),
    "unknown model": ("cameras.bin", counted(camera_bytes(77)), "unknown model number 77"),
    "zero focal length": ("cameras.bin", counted(camera_bytes(f=0.0)), "focal"),
    "negative focal length": ("cameras.bin", counted(camera_bytes(f=-3.0)), "focal"),
    "infinite focal length": ("cameras.bin", counted(camera_bytes(f=float("inf"))), "finite"),
    "zero width": ("cameras.bin", counted(camera_bytes(size=(0, 6))), "0x6"),
    "huge width": ("cameras.bin", counted(camera_bytes(size=(2**60, 6))), "size"),
    "camera twice": ("cameras.bin", counted(camera_bytes(), camera_bytes()), "camera id 1"),
    "all around": ("cameras.bin", counted(camera_bytes(17)), "EQUIRECTANGULAR looks all around"),
    "NaN pose": ("images.bin", counted(image_bytes(x=NAN)), "not finite"),
    "NaN quaternion": ("images.bin", counted(image_bytes(q=(NAN, 0, 0, 0))), "not finite"),
    "zero quaternion": ("images.bin", counted(image_bytes(q=(0, 0, 0, 0))), "quaternion"),
    "image id twice": ("images.bin", counted(image_bytes(), image_bytes(1, b"b")), "image id 1"),
    "image name twice": ("images.bin", counted(image_bytes(), image_bytes(2)), "a.png.*twice"),
    "name is not text": ("images.bin", counted(image_bytes(name=b"\xff\xfe")), "UTF-8"),
    "no images": ("images.bin", counted(), "no images"),
    "NaN point": ("points3D.bin", counted(point_bytes(), point_bytes(8, NAN)), "number 2"),
    "point twice": ("points3D.bin", counted(point_bytes(), point_bytes()), "point id 7"),
}


@pytest.mark.fault(row=27)
@pytest.mark.parametrize("fault", BINARY_FAULTS)
def test_binary_faults_are_format_errors(folder: Path, fault: str) -> None:
    name, data, message = BINARY_FAULTS[fault]
    (folder / name).write_bytes(data)
    with pytest.raises(FormatError, match=message) as caught:
        read_colmap_model(folder)
    assert name in str(caught.value)


BAD_NAMES = [
    "../x.png",
    "a/../../x.png",
    "/etc/passwd",
    "C:/x.png",
    "",
    "..",
    "a\tb",
    " x.png",
    "x" * 300,
    "a/" + "é" * 200,
]


@pytest.mark.fault(row=15)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_unsafe_names_are_refused_with_the_name(folder: Path, name: str) -> None:
    (folder / "images.bin").write_bytes(counted(image_bytes(name=name.encode())))
    with pytest.raises(FormatError, match="refused") as caught:
        read_colmap_model(folder)
    assert repr(name) in str(caught.value)


@pytest.mark.fault(row=15)
def test_nul_in_a_text_name_is_refused(text_folder: Path) -> None:
    (text_folder / "images.txt").write_text("1 1 0 0 0 1 2 3 1 a\0.png\n\n")
    with pytest.raises(FormatError, match="refused"):
        read_colmap_model(text_folder)


TEXT_FAULTS = {
    "unknown model": ("cameras.txt", "#\n1 PINHOOLE 8 6 5 5 4 3\n", "PINHOOLE", 2),
    "parameters": ("cameras.txt", "1 PINHOLE 8 6 5 5 4\n", "4 parameters, got 3", 1),
    "underscore": ("cameras.txt", "1 PINHOLE 8 6 1_0 5 4 3\n", "not a number", 1),
    "negative": ("cameras.txt", "1 PINHOLE -8 6 5 5 4 3\n", "width", 1),
    "long number": ("cameras.txt", f"1 PINHOLE {'9' * 5000} 6 5 5 4 3\n", "width", 1),
    "camera twice": ("cameras.txt", "1 PINHOLE 8 6 5 5 4 3\n" * 2, "camera id 1", 0),
    "no name": ("images.txt", "1 1 0 0 0 1 2 3 1\n\n", "10 fields", 1),
    "unknown camera": ("images.txt", "1 1 0 0 0 1 2 3 5 a.png\n\n", "camera 5", 0),
    "observations": ("images.txt", "1 1 0 0 0 0 0 0 1 a\n1 2 3 4\n", "triples", 2),
    "nan": ("images.txt", "1 1 0 0 0 nan 2 3 1 a\n\n", "finite", 1),
    "zero quaternion": ("images.txt", "1 0 0 0 0 1 2 3 1 a\n\n", "quaternion", 1),
    "observation": ("images.txt", "1 1 0 0 0 1 2 3 1 a\n1 2 x\n", "not a number", 2),
    "colour": ("points3D.txt", "1 0 0 0 256 0 0 0\n", "0..255", 1),
    "half a track": ("points3D.txt", "1 0 0 0 255 0 0 0 1\n", "half a pair", 1),
    "inf point": ("points3D.txt", "1 inf 0 0 255 0 0 0\n", "finite", 0),
    "point twice": ("points3D.txt", "1 0 0 0 255 0 0 0\n" * 2, "point id 1", 0),
}


@pytest.mark.fault(row=27)
@pytest.mark.parametrize("fault", TEXT_FAULTS)
def test_text_faults_are_format_errors(text_folder: Path, fault: str) -> None:
    name, data, message, line = TEXT_FAULTS[fault]
    (text_folder / name).write_text(data)
    with pytest.raises(FormatError, match=message) as caught:
        read_colmap_model(text_folder)
    assert name in str(caught.value)
    assert not line or f"line {line}" in str(caught.value)


def test_text_that_is_not_utf8_tells_the_byte(text_folder: Path) -> None:
    (text_folder / "cameras.txt").write_bytes(b"# ok\n\xff")
    with pytest.raises(FormatError, match="byte 5"):
        read_colmap_model(text_folder)


def test_agrees_with_pycolmap(make_scene: Callable[..., Path]) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="pip install pycolmap runs this test")
    folder = make_scene() / "sparse" / "0"
    ours, theirs = read_colmap_model(folder), pycolmap.Reconstruction(str(folder))
    assert len(ours.images) == len(theirs.images)
    for image in ours.images:
        pose = theirs.images[image.id].cam_from_world
        matrix = (pose() if callable(pose) else pose).matrix()
        np.testing.assert_allclose(image.world_to_view()[:3], matrix, atol=1e-12)


@pytest.mark.parametrize("name", ["bonsai", "mlp_table", "tracebot_003"])
def test_real_models(name: str) -> None:
    folder = find_colmap_folder(REAL / name, "", [])
    if folder is None:
        pytest.skip("the real scenes are not here")
    model = read_colmap_model(folder)
    assert len(model.images) >= 100
    assert model.points is not None and len(model.points) > 9000
    # Most points of a reconstruction lie in front of most of its cameras.
    homogeneous = np.c_[model.points.positions, np.ones(len(model.points))]
    ahead = [(homogeneous @ image.world_to_view()[2] > 0).mean() for image in model.images]
    assert np.median(ahead) > 0.6
