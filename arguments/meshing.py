# SPDX-License-Identifier: Apache-2.0
"""The options of meshes, with the names and meanings that 2DGS's `render.py` gave them."""

from __future__ import annotations

from dataclasses import dataclass

from arguments.opening import OpeningParams
from arguments.options import option, require, require_at_least

AUTOMATIC = -1.0


@dataclass(frozen=True)
class MeshParams(OpeningParams):
    """How rendered depth is fused to a mesh; lengths in the units of the scene's files."""

    mesh: bool = option(False, "a triangle mesh of the surfaces, by fusing rendered depth")
    voxel_size: float = option(
        AUTOMATIC, "edge of a voxel; -1: depth_trunc / mesh_res, but no finer than the pixels"
    )
    depth_trunc: float = option(
        AUTOMATIC, "farthest depth that counts; -1: twice the distance of the cameras to the focus"
    )
    sdf_trunc: float = option(AUTOMATIC, "reach of a depth before and behind it; -1: 5 voxels")
    num_cluster: int = option(50, "largest connected pieces that are kept")
    unbounded: bool = option(False, "surroundings too, in a grid that becomes coarser outwards")
    mesh_res: int = option(1024, "voxels across the mesh, where no voxel_size is given")
    stereo: str = option(
        "auto",
        "put rendered depth right by comparing the views' pictures; auto: where all is asked "
        "for, not one object, and it takes no more than minutes",
        choices=("auto", "on", "off"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("voxel_size", "depth_trunc", "sdf_trunc"):
            value = getattr(self, name)
            require(value == AUTOMATIC or value > 0, name, value, "positive, or -1")
        require_at_least(self, 1, "num_cluster")
        require_at_least(self, 8, "mesh_res")
