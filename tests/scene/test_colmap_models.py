# SPDX-License-Identifier: Apache-2.0
"""Which of several models is read; tracks and observations; text files that people write."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arguments import ModelParams
from scene.dataset import Scene, load_scene
from scene.readers.colmap import (
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    find_colmap_folder,
    read_colmap_model,
    write_colmap_model,
)
from utils.errors import DataError, FormatError, UserError

MakeScene = Callable[..., Path]


def load(source: Path, **changes: Any) -> Scene:
    return load_scene(ModelParams(str(source), no_masks=True, **changes), seed=0)


def write_model(folder: Path, count: int, binary: bool = True) -> None:
    """A model of the first `count` images of `make_scene`."""
    cameras = [ColmapCamera(1, "PINHOLE", 40, 30, (36.0, 36.0, 20.0, 15.0))]
    images = [
        ColmapImage(i + 1, f"{i:03d}.png", 1, (1.0, 0.0, 0.0, 0.0), (float(i), 0.0, 4.0))
        for i in range(count)
    ]
    points = ColmapPoints(np.zeros((1, 3)), np.zeros((1, 3), np.uint8))
    write_colmap_model(folder, cameras, images, points, binary=binary)


@pytest.mark.parametrize("binary", [True, False])
def test_the_largest_part_of_a_broken_reconstruction(make_scene: MakeScene, binary: bool) -> None:
    source = make_scene()
    shutil.rmtree(source / "sparse/0")
    write_model(source / "sparse/0", 2)
    write_model(source / "sparse/1", 6, binary)
    write_model(source / "sparse/10", 3)
    scene = load(source)
    assert len(scene.train) == 6
    said, unposed = scene.notices
    assert "sparse/1 (6 images)" in said and "--sparse" in said
    assert "sparse/0 (2 images), sparse/10 (3 images)" in said
    assert unposed.startswith("3 photographs of") and "006.png, 007.png, 008.png" in unposed
    scene = load(source, sparse="10")
    assert len(scene.train) == 3 and len(scene.notices) == 1
    with pytest.raises(UserError, match=r"--sparse 7.*sparse/0 \(2 images\), sparse/1"):
        load(source, sparse="7")


def test_a_damaged_part_is_never_passed_over(make_scene: MakeScene) -> None:
    source = make_scene()
    write_model(source / "sparse/1", 2)
    (source / "sparse/1/images.bin").write_bytes(b"abc")
    with pytest.raises(FormatError, match=r"sparse/1/images\.bin at byte 0"):
        load(source)
    assert len(load(source, sparse="0").train) == 9


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "sparse/geo", "colmap/sparse/0", "."])
def test_places_of_models(make_scene: MakeScene, place: str) -> None:
    source = make_scene()
    (source / "sparse/0").rename(source / "model")
    (source / "sparse").rmdir()
    target = source / place
    target.mkdir(parents=True, exist_ok=True)
    for path in (source / "model").iterdir():
        path.rename(target / path.name)
    (source / "model").rmdir()
    assert find_colmap_folder(source, "", []) == target
    scene = load(source)
    assert len(scene.train) == 9 and scene.notices == ()


def test_newer_files_beside_the_model_change_nothing(make_scene: MakeScene) -> None:
    source = make_scene(binary=False)
    (source / "sparse/0/rigs.txt").write_text("# Rigs\n1 1 CAMERA 1\n")
    (source / "sparse/0/frames.txt").write_text("# Frames\n1 1 1 0 0 0 0 0 4 1 CAMERA 1 1\n")
    assert load(source).notices == ()


def test_what_is_not_recognised_is_told_with_the_next_step(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    with pytest.raises(DataError, match="it is empty"):
        load(tmp_path)
    source = make_scene()
    outer = tmp_path / "outer"
    outer.mkdir()
    source.rename(outer / "inner")
    with pytest.raises(DataError, match=r"it holds inner/; pass -s \S+/outer/inner"):
        load(outer)
    shutil.rmtree(outer / "inner/sparse")
    with pytest.raises(DataError) as caught:
        load(outer / "inner")
    text = str(caught.value)
    assert "neither a COLMAP model" in text and "transforms.json" in text
    assert "images/, labels.json, object_mask/" in text
    assert "convert.py -s" in text


@pytest.fixture
def tracked(tmp_path: Path) -> tuple[Path, Path]:
    """One hand-made model with tracks in both forms: (binary folder, text folder)."""
    binary, text = tmp_path / "binary", tmp_path / "text"
    binary.mkdir()
    text.mkdir()
    camera = struct.pack("<IiQQ4d", 1, 1, 8, 6, 5, 5, 4, 3)
    (binary / "cameras.bin").write_bytes(struct.pack("<Q", 1) + camera)
    (text / "cameras.txt").write_text("1 PINHOLE 8 6 5 5 4 3\n")
    seen = {5: [(1.5, 2.5, 70), (3.0, 4.0, -1), (0.5, 0.25, 9)], 12: [], 7: [(7.5, 5.5, 70)]}
    data, lines = struct.pack("<Q", 3), []
    for number, rows in seen.items():
        data += struct.pack("<I7dI", number, 1, 0, 0, 0, 1, 2, 3, 1) + f"{number}.png".encode()
        data += b"\0" + struct.pack("<Q", len(rows))
        data += b"".join(struct.pack("<ddq", *row) for row in rows)
        lines += [f"{number} 1 0 0 0 1 2 3 1 {number}.png"]
        lines += [" ".join(f"{x} {y} {point}" for x, y, point in rows)]
    (binary / "images.bin").write_bytes(data)
    (text / "images.txt").write_text("\n".join(lines) + "\n")
    tracks = {70: [(5, 0), (7, 0)], 8: [], 9: [(5, 2)]}
    data, lines = struct.pack("<Q", 3), []
    for number, pairs in tracks.items():
        data += struct.pack("<Q3d3BdQ", number, 1, 2, 3, 10, 20, 30, 0.5, len(pairs))
        data += b"".join(struct.pack("<II", *pair) for pair in pairs)
        lines += [f"{number} 1 2 3 10 20 30 0.5 " + " ".join(f"{a} {b}" for a, b in pairs)]
    (binary / "points3D.bin").write_bytes(data)
    (text / "points3D.txt").write_text("\n".join(lines) + "\n")
    return binary, text


@pytest.mark.parametrize("form", [0, 1])
def test_tracks_and_observations(tracked: tuple[Path, Path], form: int) -> None:
    model = read_colmap_model(tracked[form])
    assert model.points is not None and model.points.ids is not None
    assert model.points.ids.tolist() == [70, 8, 9]
    tracks = model.tracks()
    rows = np.stack([tracks.point_ids, tracks.image_ids, tracks.indices], axis=1)
    assert rows.tolist() == [[70, 5, 0], [70, 7, 0], [9, 5, 2]]
    observed = model.observations()
    assert list(observed) == [5, 12, 7]
    assert observed[5].point_ids.tolist() == [70, -1, 9]
    assert observed[5].pixels.tolist() == [[1.5, 2.5], [3.0, 4.0], [0.5, 0.25]]
    assert observed[12].pixels.shape == (0, 2)
    # Both files tell the same story: every sighting is of its point.
    for point, image, index in rows:
        assert observed[image].point_ids[index] == point
    for path in tracked[form].glob("points3D.*"):
        path.unlink()
    assert len(model.tracks().point_ids) == 0


def test_tracks_agree_with_pycolmap(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="pip install pycolmap runs this test")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_frames_per_rig = 4
    options.num_points3D = 60
    theirs = pycolmap.synthesize_dataset(options)
    (tmp_path / "text").mkdir()
    theirs.write(str(tmp_path))
    theirs.write_text(str(tmp_path / "text"))
    for folder in (tmp_path, tmp_path / "text"):
        model = read_colmap_model(folder)
        expected = {
            (number, element.image_id, element.point2D_idx)
            for number, point in theirs.points3D.items()
            for element in point.track.elements
        }
        tracks = model.tracks()
        found = zip(
            tracks.point_ids.tolist(),
            tracks.image_ids.tolist(),
            tracks.indices.tolist(),
            strict=True,
        )
        assert set(found) == expected and len(expected) > 100
        for number, seen in model.observations().items():
            points = theirs.images[number].points2D
            np.testing.assert_allclose(seen.pixels, [point.xy for point in points], atol=1e-9)
            held = [p.point3D_id if p.has_point3D() else -1 for p in points]
            assert seen.point_ids.tolist() == held


@pytest.mark.fault(row=26)
@pytest.mark.parametrize("name", ["images.bin", "points3D.bin"])
def test_truncated_tracks_are_format_errors(tracked: tuple[Path, Path], name: str) -> None:
    model = read_colmap_model(tracked[0])
    whole = (tracked[0] / name).read_bytes()
    for length in range(len(whole)):
        (tracked[0] / name).write_bytes(whole[:length])
        with pytest.raises(FormatError, match=name):
            model.tracks() if name.startswith("points") else model.observations()


def text_model(folder: Path, images: str | bytes, points: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cameras.txt").write_text("1 PINHOLE 8 6 5 5 4 3\n")
    data = images if isinstance(images, bytes) else images.encode()
    (folder / "images.txt").write_bytes(data)
    if points:
        (folder / "points3D.txt").write_text(points)
    return folder


A, B = "1 1 0 0 0 0 0 0 1 a.png", "2 1 0 0 0 0 0 0 1 b c.png"
SEEN = "1.5 2.5 -1 3 4 7"


@pytest.mark.parametrize(
    "text",
    [
        f"{A}\n\n{B}\n\n",
        f"{A}\n{SEEN}\n{B}\n{SEEN}",
        f"{A}\n\n{B}",  # the file ends after the last image
        f"{A}\n{B}",  # no observations anywhere
        f"{A}\n{SEEN}\n{B}\n",
        f"# list\n{A}\n# of the next\n{B}\n\n",
        f"{A}\r\n\r\n{B}\r\n\r\n",
        f"\ufeff{A}\n\n{B}\n\n",
        f"{A}\n\n\n\n{B}\n",
        (f"{A}\r\n\r\n{B}\r\n").encode("utf-16"),
        f"1.0 {A[2:]}\n\n{B}\n",
    ],
)
def test_images_that_people_write(tmp_path: Path, text: str | bytes) -> None:
    model = read_colmap_model(text_model(tmp_path, text))
    assert [image.name for image in model.images] == ["a.png", "b c.png"]
    assert [image.id for image in model.images] == [1, 2]
    seen = [len(row.pixels) for row in model.observations().values()]
    has = SEEN in text if isinstance(text, str) else False
    assert seen[0] == 2 * has


@pytest.mark.parametrize(
    ("row", "rgb"),
    [
        ("1 0 0 0 131.0 20 30 0.5", (131, 20, 30)),
        ("1 0 0 0 131.4 20.5 30 0.5", (131, 21, 30)),
        ("1 0 0 0 0.5 1.0 0.2 0", (128, 255, 51)),
        ("1 0 0 0 1 0 1 0", (1, 0, 1)),
        ("1.0 0 0 0 9 8 7", (9, 8, 7)),
        ("-1 0 0 0 9 8 7 0\n-1 1 0 0 9 8 7 0", (9, 8, 7)),
    ],
)
def test_points_that_scripts_write(tmp_path: Path, row: str, rgb: tuple[int, ...]) -> None:
    points = read_colmap_model(text_model(tmp_path, A, row + "\n")).points
    assert points is not None and tuple(points.colors[0].tolist()) == rgb
    assert len(points) == row.count("\n") + 1


def test_utf16_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"images\.txt at byte \d+: not UTF-16"):
        read_colmap_model(text_model(tmp_path, b"\xff\xfea\x00\x00\xd8b"))


def test_observations_beyond_all_numbers(tmp_path: Path) -> None:
    model = read_colmap_model(text_model(tmp_path, f"{A}\n1e300 2 3\n"))
    with pytest.raises(FormatError, match="line 2: an observation is too large"):
        model.observations()
