# SPDX-License-Identifier: Apache-2.0
"""Which masks of different views show the same object, found in 3D. Knows no run and no trainer.

    lift      masks of images -> blending weight of every splat inside every mask
    start     a first guess of the tracks: the ids as given, or a graph of overlaps
    refine    masks go to the track that the other views name for their splats
    name      every track gets an id
    relabel   label maps that agree with the tracks

A mask is one object's pixels in one view; a track is a set of masks, at best one a view.
"""

from iqgs.association.associate import STARTS, Association, associate
from iqgs.association.lift import LiftedMasks, MaskView, lift
from iqgs.association.name import name_tracks
from iqgs.association.refine import Tracks, drop_rare, refine
from iqgs.association.relabel import (
    DrawnTracks,
    Relabelled,
    Swallowed,
    contradicting,
    draw_tracks,
    relabel,
    track_labels,
)
from iqgs.association.start import given_start, graph_starts

__all__ = [
    "STARTS",
    "Association",
    "DrawnTracks",
    "LiftedMasks",
    "MaskView",
    "Relabelled",
    "Swallowed",
    "Tracks",
    "associate",
    "contradicting",
    "draw_tracks",
    "drop_rare",
    "given_start",
    "graph_starts",
    "lift",
    "name_tracks",
    "refine",
    "relabel",
    "track_labels",
]
