# SPDX-License-Identifier: Apache-2.0
"""Splats with their objects as PLY, in the columns of 2DGS and 3DGS or in those of viewers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from iqgs.export.record import SplatArrays
from scene.splat_files.columns import CONFIDENCE_COLUMN
from scene.splat_files.frames import DISCS_COMMENT, up_comment
from scene.splat_files.splat_file import write_splats
from utils.errors import UserError


def write_ply(path: Path, splats: SplatArrays, as_3dgs: bool) -> None:
    """Write splats as a PLY with `instance`, `instance_conf` and the columns nobody here knows.

    As they are: 2DGS's two scales (or three of ellipsoids), in the run's coordinates. With
    `as_3dgs` for viewers of 3D Gaussians: discs get a third scale, and up becomes -y. Comments
    tell the frame. Raises UserError, RunError (disk full).
    """
    if splats.labels.max(initial=0) > np.iinfo(np.int32).max:
        raise UserError(f"{path}: object {splats.labels.max()} does not fit the column instance")
    extra = {**splats.extra, CONFIDENCE_COLUMN: splats.confidence}
    write_splats(
        path,
        splats.raw,
        viewer=as_3dgs,
        labels=splats.labels.astype(np.int32),
        extra=extra,
        frame=splats.frame,
        comments=[] if as_3dgs else plain_comments(splats),
    )


def plain_comments(splats: SplatArrays) -> list[str]:
    """What a file in the run's coordinates says beside its origin: the kind of splats, and up."""
    return [
        *([DISCS_COMMENT] if splats.flat else []),
        up_comment(splats.frame),
        "IQGS: lengths are in the units of the scene's files",
    ]
