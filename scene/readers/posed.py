# SPDX-License-Identifier: Apache-2.0
"""What every reader of poses returns: cameras with the photographs that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scene.cameras import Camera
from scene.lenses import Lens
from scene.pictures import StoredPicture
from scene.readers.colmap import ColmapModel, ColmapPoints


@dataclass(frozen=True, eq=False)
class PosedImage:
    """A camera and its photograph.

    A reader gives the camera at the size that its file declares; `at_render_size` gives it the size
    that is rendered, and looks into the photograph's header.
    """

    camera: Camera
    path: Path
    held_out: bool | None = None  # the file's own split; None where it has none
    lens: Lens | None = None  # at the size that the file declares; None: a pinhole
    image_id: int | None = None  # COLMAP's number of the image
    picture: StoredPicture | None = None  # known after `at_render_size`


@dataclass(frozen=True, eq=False)
class SceneFiles:
    """What the files of a scene say, before anything is checked against the photographs."""

    kind: str  # colmap | transforms | blender | scan
    posed: list[PosedImage]
    photographs: Path  # the folder that holds them, for the sentences that name it
    points: ColmapPoints | None  # sparse points, in the coordinates of the poses
    point_files: tuple[Path, ...]  # PLY files that may hold points instead, in order of preference
    model: ColmapModel | None = None  # for tracks and observations; None without COLMAP's poses
