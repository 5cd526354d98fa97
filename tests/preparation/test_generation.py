# SPDX-License-Identifier: Apache-2.0
"""Proposals of a scene as files: what is written, what goes on after a stop, what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arguments import ModelParams
from arguments.mask_commands import GenerationParams
from arguments.masks import GridParams, MergeParams, ProposalParams, TrackParams
from iqgs.preparation.proposals.generation import generate_masks
from scene.masks import MaskLayers, read_mask_file
from utils.errors import RunError, UserError
from utils.storage import sweep_stale

from .shapes import SIZE, box, pile, write_scene

NAMES = ["9.jpg", "10.jpg", "sub/11.png"]


class GrayProposer:
    """The gray boxes of the photographs, and their surroundings; stops where it is told to."""

    coding = "view"

    def __init__(self, stop_after: int = 99) -> None:
        self.stop_after = stop_after
        self.images: list[np.ndarray] = []
        self.went_on: list[tuple[np.ndarray, int]] = []

    def propose(self, image: np.ndarray) -> MaskLayers:
        if len(self.images) == self.stop_after:
            raise RunError("stopped")
        self.images.append(image)
        near = [np.abs(image[..., 0].astype(int) - gray) < 20 for gray in (200, 120)]
        score = [0.5, 0.75, 0.9]
        return pile(*near, np.ones_like(near[0]), score=score)

    def go_on(self, image: np.ndarray, label_map: np.ndarray, used: int) -> None:
        self.went_on.append((label_map, used))


class TrackProposer(GrayProposer):
    """The same with numbers that grow from photograph to photograph."""

    coding = "ids"
    first = 1

    def propose(self, image: np.ndarray) -> MaskLayers:
        number = self.first + 10 * len(self.images)
        layers = super().propose(image)
        return replace(layers, source=np.array([number, number + 1, number + 2]))


def params(source: Path, **changes: Any) -> GenerationParams:
    settings = {"method": "command", "command": "x {image} {output}", "quiet": True, **changes}
    return GenerationParams(
        ModelParams(str(source)),
        ProposalParams(**settings),
        GridParams(),
        MergeParams(max_area=0.9),
        TrackParams(),
    )


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene", NAMES)


def ids_of(path: Path) -> np.ndarray:
    return read_mask_file(path).flat().map()


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_id_maps_lists_record_and_sheet(scene: Path) -> None:
    proposer = GrayProposer()
    folder = generate_masks(params(scene), lambda: proposer)
    assert folder == scene / "object_mask_raw"
    assert list(content(folder)) == ["10.png", "9.png", "sub/11.png"]
    assert Image.open(folder / "9.png").mode.startswith("I;16")
    expected = np.zeros(SIZE[::-1], int)
    expected[box(20, 16, 36, 26)], expected[box(4, 4, 16, 14)] = 1, 2
    np.testing.assert_array_equal(ids_of(folder / "sub/11.png"), expected)
    layers = read_mask_file(scene / "object_mask_raw_layers/sub/11.json").as_layers()
    assert layers.score.tolist() == [0.75, 0.5] and layers.level.tolist() == [0, 0]
    np.testing.assert_array_equal(layers.mask(1), box(4, 4, 16, 14))
    about = json.loads((scene / "object_mask_raw.json").read_text())
    assert about["numbering"] == "view" and about["settings"]["merging"]["max_area"] == 0.9
    sheet = np.asarray(Image.open(scene / "object_mask_raw_sheet.png"))
    assert sheet.shape == (2 * 30 + 4, 2 * 40 + 4, 3)
    assert (sheet[5:13, 5:15].astype(int) != 200).all()  # the box is tinted


def test_photographs_come_in_natural_order_and_rgb(scene: Path) -> None:
    red = np.zeros((30, 40, 3), np.uint8)
    red[..., 0] = 250
    Image.fromarray(red).save(scene / "images/sub/11.png")
    proposer = GrayProposer()
    generate_masks(params(scene), lambda: proposer)
    assert [int(image[0, 0, 0]) > 100 for image in proposer.images] == [False, False, True]
    assert proposer.images[2][0, 0].tolist() == [250, 0, 0]


def test_it_goes_on_where_it_stopped_to_the_same_bytes(scene: Path) -> None:
    whole = generate_masks(params(scene, object_path="whole", layers=False), GrayProposer)
    with pytest.raises(RunError, match="stopped"):
        generate_masks(params(scene), lambda: GrayProposer(stop_after=1))
    assert list(content(scene / "object_mask_raw")) == ["9.png"]
    rest = GrayProposer()
    folder = generate_masks(params(scene), lambda: rest)
    assert len(rest.images) == 2 and content(folder) == content(whole)


def test_what_is_finished_needs_no_model(scene: Path) -> None:
    generate_masks(params(scene), GrayProposer)

    def none_needed() -> GrayProposer:
        raise AssertionError

    generate_masks(params(scene), none_needed)


def test_a_kill_while_a_map_is_written_leaves_no_half_map(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(temporary: Path, path: Path) -> None:
        if path.parent.name == "object_mask_raw":
            raise KeyboardInterrupt
        real(temporary, path)

    real = os.replace
    monkeypatch.setattr("utils.images.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        generate_masks(params(scene, layers=False), GrayProposer)
    monkeypatch.undo()
    (left,) = content(scene / "object_mask_raw")
    assert left.startswith(".9.png.")
    rest = GrayProposer()
    generate_masks(params(scene, layers=False), lambda: rest)
    assert len(rest.images) == 3


def test_a_missing_model_costs_no_mask(scene: Path) -> None:
    generate_masks(params(scene), GrayProposer)
    before = content(scene)

    def no_weights() -> GrayProposer:
        raise UserError("no weights")

    with pytest.raises(UserError, match="no weights"):
        generate_masks(params(scene, overwrite=True), no_weights)
    assert content(scene) == before


def test_other_settings_do_not_mix(scene: Path) -> None:
    generate_masks(params(scene), GrayProposer)
    other = replace(params(scene), merging=MergeParams(max_area=0.8))
    with pytest.raises(UserError, match=r"--max_area was 0\.9 and is 0\.8.*--overwrite"):
        generate_masks(other, GrayProposer)
    with pytest.raises(UserError, match="--command was"):
        generate_masks(params(scene, command="y {image} {output}"), GrayProposer)
    generate_masks(params(scene, object_path="elsewhere"), GrayProposer)
    again = GrayProposer()
    generate_masks(
        replace(other, proposals=replace(other.proposals, overwrite=True)), lambda: again
    )
    assert len(again.images) == 3


def test_masks_of_others_and_photographs_are_safe(scene: Path) -> None:
    own = scene / "object_mask_raw/9.png"
    own.parent.mkdir()
    own.write_bytes(b"by hand")
    with pytest.raises(UserError, match="holds masks of another program"):
        generate_masks(params(scene), GrayProposer)
    assert own.read_bytes() == b"by hand"
    for folder in ("images", "images/sub"):
        with pytest.raises(UserError, match="holds photographs"):
            generate_masks(params(scene, object_path=folder, overwrite=True), GrayProposer)
    assert (scene / "images/9.jpg").is_file()


def test_only_some_photographs(scene: Path) -> None:
    some = GrayProposer()
    generate_masks(params(scene, only=("1*",)), lambda: some)
    assert list(content(scene / "object_mask_raw")) == ["10.png", "sub/11.png"]
    again = GrayProposer()  # made anew: these alone
    generate_masks(params(scene, only=("10.jpg",), overwrite=True), lambda: again)
    assert len(again.images) == 1 and len(content(scene / "object_mask_raw")) == 2
    with pytest.raises(UserError, match=r"--only nothing: fits none of the 3 photographs, as 9"):
        generate_masks(params(scene, only=("nothing",)), GrayProposer)


def test_tracks_keep_their_numbers_and_go_on(scene: Path) -> None:
    video = {"method": "sam2", "video": True}
    with pytest.raises(RunError):
        generate_masks(params(scene, **video), lambda: TrackProposer(stop_after=2))
    maps = scene / "object_mask_raw"
    assert sorted(set(ids_of(maps / "10.png").ravel().tolist())) == [0, 11, 12]
    assert json.loads((scene / "object_mask_raw.json").read_text())["numbering"] == "ids"
    rest = TrackProposer()
    generate_masks(params(scene, **video), lambda: rest)
    ((label_map, used),) = rest.went_on
    assert used == 12 and len(rest.images) == 1
    np.testing.assert_array_equal(label_map, ids_of(maps / "10.png"))


@pytest.mark.parametrize("orientation", [3, 6])
def test_models_see_upright_photographs_and_masks_lie_as_the_stored_ones(
    tmp_path: Path, orientation: int
) -> None:
    scene = write_scene(tmp_path / "scene", ["a.jpg"], orientation=orientation)
    proposer = GrayProposer()
    folder = generate_masks(params(scene), lambda: proposer)
    expected = (40, 30) if orientation == 6 else (30, 40)
    assert proposer.images[0].shape[:2] == expected
    ids = ids_of(folder / "a.png")
    np.testing.assert_array_equal(ids == 2, box(4, 4, 16, 14))
    layers = read_mask_file(scene / "object_mask_raw_layers/a.json").as_layers()
    np.testing.assert_array_equal(layers.mask(1), box(4, 4, 16, 14))
    # The tag says so, and so nothing is guessed when they are read again.
    assert Image.open(folder / "a.png").getexif().get(0x0112) == orientation


def test_without_poses_the_photographs_alone_do(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene", ["b.png", "a.png"])
    (scene / "sparse").rename(tmp_path / "gone")
    folder = generate_masks(params(scene), GrayProposer)
    assert list(content(folder)) == ["a.png", "b.png"]
    assert sweep_stale(scene) == []
