# SPDX-License-Identifier: Apache-2.0
"""SAM 2 and SAM 3 of transformers with random weights, against the library's own ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arguments import ModelParams
from arguments.mask_commands import GenerationParams
from arguments.masks import GridParams, MergeParams, ProposalParams, TrackParams
from iqgs.preparation.proposals import make_proposer
from iqgs.preparation.proposals.segment_anything_2 import (
    FAMILIES,
    PromptedImage,
    import_class,
    load_model,
    normalisation,
)
from iqgs.preparation.proposals.tracking import VideoProposer, session_maker
from utils.errors import DataError, UserError

from .tiny_models import SIDE, write_tiny

pytest.importorskip("transformers", "5")

METHODS = ("sam2", "sam3")
ANY = GridParams(
    points_per_side=4, pred_iou_threshold=0.0, stability_threshold=0.0, box_nms_threshold=0.9
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    import_class("Sam2Model")  # beside a torchvision that does not work
    folder = tmp_path_factory.mktemp("weights")
    kinds = [(method, video) for method in METHODS for video in (False, True)]
    return {kind: write_tiny(folder / f"{kind[0]}_{kind[1]}", *kind) for kind in kinds}


def prompted(weights: dict[tuple[str, bool], Path], method: str, video: bool) -> PromptedImage:
    folder = str(weights[method, video])
    model = load_model(method, folder, allow_download=False, video=video)
    return PromptedImage(model, *normalisation(method, folder))


def frames(count: int, size: int = SIDE) -> list[np.ndarray]:
    """A picture that moves on from frame to frame."""
    rng = np.random.default_rng(2)
    picture = np.kron(rng.integers(0, 256, (16, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return [np.ascontiguousarray(picture[:size, 3 * k : 3 * k + size]) for k in range(count)]


@pytest.mark.parametrize("method", METHODS)
def test_points_are_answered_as_by_the_model_itself(
    weights: dict[tuple[str, bool], Path], method: str
) -> None:
    image = frames(1)[0]
    ours = prompted(weights, method, False)
    ours.look(image)
    points = torch.tensor([[0.1, 0.2], [0.7, 0.4], [0.5, 0.9]])
    logits, scores = ours.answer(points)
    family = FAMILIES[method]
    values = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    mean, deviation = torch.tensor(family.mean), torch.tensor(family.deviation)
    with torch.inference_mode():
        expected = ours.model(
            pixel_values=(values - mean[:, None, None]) / deviation[:, None, None],
            input_points=(points * SIDE)[None, :, None],
            input_labels=torch.ones((1, 3, 1), dtype=torch.int64),
            multimask_output=True,
        )
    torch.testing.assert_close(logits, expected.pred_masks[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, expected.iou_scores[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_for_videos_sees_in_a_frame_what_it_would_see_in_an_image(
    weights: dict[tuple[str, bool], Path], method: str
) -> None:
    """Features computed once for the tracks serve the search for new objects."""
    ours = prompted(weights, method, True)
    image = frames(1)[0]
    ours.look(image)
    expected = ours.answer(torch.tensor([[0.3, 0.6]]))
    features = ours.model.get_image_features(ours.pixels(image), return_dict=True)
    ours.use(list(features.fpn_hidden_states))
    for one, other in zip(ours.answer(torch.tensor([[0.3, 0.6]])), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def params(method: str, folder: Path, **changes: Any) -> GenerationParams:
    return GenerationParams(
        ModelParams("scene"),
        ProposalParams(method=method, checkpoint=str(folder), **changes),
        ANY,
        MergeParams(max_area=1.0, duplicate_iou=0.9),
        TrackParams(detect_every=100, forget_after=100),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("video", [False, True])
def test_masks_of_images(weights: dict[tuple[str, bool], Path], method: str, video: bool) -> None:
    """Two runs give the same; sizes that are no square are fine."""
    kind = params(method, weights[method, video], video=video)
    images = [image[:48] for image in frames(2)]
    runs = []
    for _ in range(2):
        proposer = make_proposer(kind, torch.device("cpu"))
        runs.append([proposer.propose(image) for image in images])
    assert len(runs[0][0]) > 0 and (runs[0][0].height, runs[0][0].width) == (48, SIDE)
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one.packed, other.packed)
        np.testing.assert_array_equal(one.source, other.source)


@pytest.mark.parametrize("method", METHODS)
def test_streamed_tracks_are_those_of_the_whole_video(
    weights: dict[tuple[str, bool], Path], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own propagation, with all frames in memory and nothing forgotten."""
    monkeypatch.setattr("iqgs.preparation.proposals.tracking.SAME_TRACK", 1.0)
    ours, video = prompted(weights, method, True), frames(24)
    ids = np.zeros((SIDE, SIDE), np.int32)
    ids[8:40, 8:30], ids[20:60, 34:60] = 4, 9
    proposer = VideoProposer(ours, session_maker(method, ours), params(method, Path()))
    proposer.go_on(video[0], ids, 9)
    streamed = [proposer.propose(frame) for frame in video[1:]]
    areas = np.concatenate([layers.areas() for layers in streamed])
    assert ((areas > 0) & (areas < SIDE**2)).sum() > 10  # or nothing would be compared
    for number in (4, 9):
        session = session_maker(method, ours)()
        for frame in video:
            session.add_new_frame(ours.pixels(frame)[0])
        place = session.obj_id_to_idx(number)
        session.add_mask_inputs(place, 0, torch.from_numpy(ids == number)[None, None].float())
        session.obj_with_new_inputs = [number]
        with torch.inference_mode():
            ours.model(session, frame_idx=0)
            outputs = list(ours.model.propagate_in_video_iterator(session, start_frame_idx=0))
        whole = {output.frame_idx: output.pred_masks for output in outputs}
        for frame, layers in enumerate(streamed, 1):
            logits = torch.nn.functional.interpolate(
                whole[frame].float(), (SIDE, SIDE), mode="bilinear"
            )
            found = np.zeros((SIDE, SIDE), bool)
            for index in np.flatnonzero(layers.source == number):
                found = layers.mask(int(index))
            np.testing.assert_array_equal(found, (logits[0, 0] > 0).numpy())


def test_memory_does_not_grow_with_the_frames(weights: dict[tuple[str, bool], Path]) -> None:
    ours = prompted(weights, "sam2", True)
    proposer = VideoProposer(ours, session_maker("sam2", ours), params("sam2", Path()))
    ids = np.zeros((SIDE, SIDE), np.int32)
    ids[8:40, 8:30] = 1
    proposer.go_on(frames(1)[0], ids, 1)
    sizes = []
    for frame in frames(3) * 14:
        proposer.propose(frame)
        sizes.append(sum(held(track.session.output_dict_per_obj) for track in proposer.tracks))
    assert sizes[-1] > 0 and sizes[-1] == sizes[20] == max(sizes)
    assert len(proposer.cache._vision_features) <= 2


def held(thing: Any) -> int:
    """Numbers in all tensors of nested dictionaries and lists."""
    if isinstance(thing, torch.Tensor):
        return thing.numel()
    if isinstance(thing, dict):
        return sum(held(value) for value in thing.values())
    return sum(held(value) for value in thing) if isinstance(thing, list | tuple) else 0


# --- weights


def test_weights_that_are_not_there(weights: dict[tuple[str, bool], Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--checkpoint must name the folder.*sam2\.1-hiera"):
        load_model("sam2", "", False, False)
    with pytest.raises(UserError, match=r"facebook/sam3: no such folder.*--allow_download"):
        load_model("sam3", "facebook/sam3", False, False)
    with pytest.raises(DataError, match=r"holds no config\.json"):
        load_model("sam2", str(tmp_path), False, False)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="Sam2Model cannot be loaded"):
        load_model("sam2", str(tmp_path), False, False)
    with pytest.raises(DataError, match="lacks [0-9]+ weights of Sam2VideoModel"):
        load_model("sam2", str(weights["sam2", False]), False, True)


def test_the_folders_own_normalisation_is_used(tmp_path: Path) -> None:
    assert normalisation("sam2", str(tmp_path))[0].tolist() == pytest.approx([0.485, 0.456, 0.406])
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3]}')
    mean, deviation = normalisation("sam2", str(tmp_path))
    assert mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert deviation.tolist() == pytest.approx([0.229, 0.224, 0.225])
    (tmp_path / "processor_config.json").write_text('{"image_processor": {"image_std": [1, 2, 3]}}')
    assert normalisation("sam2", str(tmp_path))[1].tolist() == [1, 2, 3]
    (tmp_path / "processor_config.json").write_text("[")
    with pytest.raises(DataError, match=r"processor_config\.json"):
        normalisation("sam2", str(tmp_path))
