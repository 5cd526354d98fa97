# SPDX-License-Identifier: Apache-2.0
"""Objects followed over the photographs of a scene as over the frames of a video, by SAM 2 or 3.

Both follow what they are given and look for nothing new. Here new objects are looked for every few
frames, by points where nothing is followed; objects unseen for long are given up, or a turn round
the scene would end with more dead objects than living ones. Frames are streamed: of the past only
what the memory of the model reads is kept, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from arguments.mask_commands import GenerationParams
from iqgs.preparation.proposals.grid import Crop, grid_points, masks_of_crop
from iqgs.preparation.proposals.merging import intersections, merge
from iqgs.preparation.proposals.protocol import Photograph
from iqgs.preparation.proposals.segment_anything_2 import FAMILIES, PromptedImage
from scene.masks import MaskLayers, present_ids

SAME_TRACK = 0.9  # IoU beyond which two tracks have become one object
Session = Any  # of transformers: the state of a video


@dataclass
class Track:
    """One object that is followed, with a state of its own so that it can be given up alone."""

    number: int
    session: Session
    unseen: int = 0  # frames since it was seen last
    mask: NDArray[np.bool_] | None = field(default=None, repr=False)  # [H, W] in this frame
    score: float = 1.0


class VideoProposer:
    """Masks whose sources are the same object in all photographs, in the order of these."""

    coding = "ids"

    def __init__(
        self, prompted: PromptedImage, new_session: Callable[[], Session], params: GenerationParams
    ) -> None:
        self.prompted, self.model, self.params = prompted, prompted.model, params
        self.new_session = new_session
        self.cache = new_session().cache  # features of the frame, for all tracks
        self.tracks: list[Track] = []
        self.frame, self.largest = -1, 0

    @torch.inference_mode()
    def propose(self, image: Photograph) -> MaskLayers:
        """The masks of all objects that are seen in the next photograph [H, W, 3]."""
        pixels = self._next_frame(image)
        height, width = image.shape[:2]
        for track in self.tracks:
            self._follow(track, pixels, (height, width))
        self._give_up()
        if self.frame % self.params.tracking.detect_every == 0:
            self._find_new(pixels, (height, width))
        seen = [track for track in self.tracks if track.mask is not None and track.mask.any()]
        row = -(-height * width // 8)
        packed = [np.packbits(track.mask) for track in seen if track.mask is not None]
        return MaskLayers.from_bits(
            (height, width),
            np.array(packed, np.uint8).reshape(len(seen), row),
            np.array([track.number for track in seen], np.int64),
            np.array([track.score for track in seen], np.float32),
        )

    @torch.inference_mode()
    def go_on(self, image: Photograph, label_map: NDArray[np.int32], used: int) -> None:
        """Follow the objects of a photograph [H, W, 3] whose ids [H, W] are known already."""
        pixels = self._next_frame(image)
        self.largest = used
        for number in present_ids(label_map):
            self._begin(number, label_map == number, 1.0, pixels)

    def _next_frame(self, image: Photograph) -> Tensor:
        """Encode the next frame for all tracks; its pixels [1, 3, side, side]."""
        self.frame += 1
        pixels = self.prompted.pixels(image)
        features = self.model.get_image_features(pixels, return_dict=True)
        maps, positions = list(features.fpn_hidden_states), features.fpn_position_encoding
        self.cache.cache_vision_features(
            self.frame, {"vision_feats": maps, "vision_pos_embeds": list(positions)}
        )
        self.prompted.use(maps)
        return pixels

    def _follow(self, track: Track, pixels: Tensor, size: tuple[int, int]) -> None:
        """The track's mask in this frame [height, width]."""
        session = track.session
        session.processed_frames = {}
        output = self.model(session, frame=pixels, frame_idx=self.frame)
        logits = interpolate(output.pred_masks.float(), size, mode="bilinear")[0, 0]
        track.mask = (logits > 0).cpu().numpy()
        track.score = float(output.object_score_logits.float().sigmoid().flatten()[0])
        track.unseen = 0 if track.mask.any() else track.unseen + 1
        forget(session, self.frame, self.model.num_maskmem, self._pointers())

    def _pointers(self) -> int:
        return int(self.model.config.max_object_pointers_in_encoder)

    def _give_up(self) -> None:
        """Drop tracks that are not seen any more, and the younger of two on one object."""
        limit = self.params.tracking.forget_after
        self.tracks = [track for track in self.tracks if track.unseen < limit]
        seen = [track for track in self.tracks if track.mask is not None and track.mask.any()]
        if len(seen) < 2:
            return
        shared = intersections(_layers([track.mask for track in seen if track.mask is not None]))
        areas = np.diagonal(shared)
        overlap = shared / (areas[:, None] + areas[None, :] - shared)
        younger = np.tril(overlap > SAME_TRACK, -1).any(axis=1)
        doubled = {seen[place].number for place in np.flatnonzero(younger)}
        self.tracks = [track for track in self.tracks if track.number not in doubled]

    def _find_new(self, pixels: Tensor, size: tuple[int, int]) -> None:
        """Begin a track for each object of this frame that is not followed yet."""
        height, width = size
        known = np.zeros(size, bool)
        for track in self.tracks:
            if track.mask is not None:
                known |= track.mask
        points = grid_points(self.params.grid.points_per_side)
        places = (points.numpy() * [width, height]).astype(int)
        free = points[torch.from_numpy(~known[places[:, 1], places[:, 0]])]
        if not len(free):
            return
        whole = Crop((0, 0, width, height), 0)
        found = masks_of_crop(self.prompted, whole, size, self.params.grid, free)
        layers = MaskLayers.from_bits(size, found.packed, score=found.score.float().cpu().numpy())
        for mask, score in self._unknown(merge(layers, self.params.merging)):
            if len(self.tracks) >= self.params.tracking.max_tracks:
                return
            self.largest += 1
            self._begin(self.largest, mask, score, pixels)

    def _unknown(self, layers: MaskLayers) -> list[tuple[NDArray[np.bool_], float]]:
        """The masks that lie on no track with more than `known_overlap` of their area."""
        known = [track.mask for track in self.tracks if track.mask is not None and track.mask.any()]
        found = [layers.mask(index) for index in range(len(layers))]
        if known and found:
            shared = intersections(_layers(found + known))[: len(found), len(found) :]
            share = shared.max(axis=1) / np.maximum(layers.areas(), 1)
            fresh = np.flatnonzero(share <= self.params.tracking.known_overlap)
        else:
            fresh = np.arange(len(found))
        return [(found[index], float(layers.score[index])) for index in fresh]

    def _begin(self, number: int, mask: NDArray[np.bool_], score: float, pixels: Tensor) -> None:
        """Follow an object from this frame on, where its mask [H, W] is known."""
        session = self.new_session()
        session.cache = self.cache
        side = (self.prompted.side, self.prompted.side)
        values = torch.from_numpy(mask)[None, None].to(self.prompted.device).float()
        square = interpolate(values, side, mode="bilinear", antialias=True) >= 0.5
        place = session.obj_id_to_idx(number)
        session.add_mask_inputs(place, self.frame, square)
        session.obj_with_new_inputs = [number]
        session.processed_frames = {}
        self.model(session, frame=pixels, frame_idx=self.frame)
        session.remove_mask_inputs(place, self.frame)
        forget(session, self.frame, self.model.num_maskmem, self._pointers())
        self.tracks.append(Track(number, session, mask=mask, score=score))


def _layers(masks: list[NDArray[np.bool_]]) -> MaskLayers:
    return MaskLayers.from_bits(masks[0].shape, np.array([np.packbits(mask) for mask in masks]))


def forget(session: Session, frame: int, memories: int, pointers: int) -> None:
    """Drop what the model will not read again: it looks back `memories` frames for features and
    `pointers` for what stands for the object; what the user gave is kept."""
    session.processed_frames = {}
    for outputs in session.output_dict_per_obj.values():
        followed = outputs["non_cond_frame_outputs"]
        for earlier in [index for index in followed if index <= frame - pointers]:
            del followed[earlier]
        for index, output in followed.items():
            if index <= frame - memories:
                output.pop("maskmem_features", None)
                output.pop("maskmem_pos_enc", None)
        for output in (*followed.values(), *outputs["cond_frame_outputs"].values()):
            output.pop("high_res_masks", None)
            output.pop("pred_masks", None)
    for times in session.frames_tracked_per_obj.values():
        times.clear()


def session_maker(method: str, prompted: PromptedImage) -> Callable[[], Session]:
    """Makes empty states of videos for a model."""
    module, name = FAMILIES[method].session
    kind = getattr(import_module(module), name)
    return lambda: kind(
        video_height=prompted.side,
        video_width=prompted.side,
        inference_device=prompted.device,
        inference_state_device=prompted.device,
        video_storage_device=prompted.device,
        dtype=prompted.dtype,
    )
