# SPDX-License-Identifier: Apache-2.0
"""Splat files read and written: what a file holds is told first, and judged by the caller."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scene.frame import SceneFrame
from scene.parameters import Kind
from scene.splat_files.columns import LABEL_COLUMN, Arrays, from_columns, to_columns
from scene.splat_files.compressed import CHUNK_ELEMENTS, is_compressed, unpacked
from scene.splat_files.discs import (
    normal_axes,
    thickness,
    with_thickness,
    without_axis,
    written_thickness,
)
from scene.splat_files.foreign import refuse_foreign
from scene.splat_files.frames import (
    DISCS_COMMENT,
    frame_comments,
    stated_origin,
    stated_rotation,
    upright_rotation,
    viewer_comments,
)
from scene.splat_files.similarity import transformed
from utils.errors import FormatError
from utils.ply import dump_ply, read_ply_file, row_bytes
from utils.storage import atomic_write

OPAQUE_LOGIT = 16.0  # of an opacity that a file gives as exactly 1: float32 can tell it from 1
MAX_LOG_SCALE = 80.0  # beyond it a size is no float32 any more
_QUATERNION_SQUARES = (1e-24, 1e24)  # between these the length can be divided out in float32
_COARSE = 0.25  # steps of float32, in splat sizes, from which positions visibly jump


@dataclass(frozen=True, eq=False)
class SplatFile:
    """What a file of N splats holds, in the coordinates of the run that wrote it."""

    raw: Arrays  # keys and shapes of GaussianModel.params; log_scales [N, 3] for kind "3dgs"
    kind: Kind
    labels: np.ndarray | None = None  # column `instance` [N] int32: id of the object, 0 none
    extra: Arrays = dataclasses.field(default_factory=dict)  # columns [N] that nobody here knows
    comments: tuple[str, ...] = ()
    frame: SceneFrame | None = None  # None: the file does not say
    notices: tuple[str, ...] = ()  # what the user should know, a sentence each

    def __len__(self) -> int:
        return len(self.raw["means"])


def read_splats(path: str | Path, keep_flat: bool = False) -> SplatFile:
    """Read a PLY of any dialect (see `columns`), plain or compressed.

    Rows with a value that is not finite or a quaternion of no direction are left out. Discs with
    a vanishing third scale are of kind "2dgs", and what was turned for viewers is turned back.
    With `keep_flat` ellipsoids may be as flat as discs: only where a thickness was written for
    viewers they are taken for such. Each of these is told in a notice. Raises DataError, or
    FormatError for another format, a cloud of points, missing columns, or no usable row.
    """
    path = Path(path)
    refuse_foreign(path)
    file = read_ply_file(path, also=CHUNK_ELEMENTS)
    vertex = file.elements["vertex"]
    columns = unpacked(file.elements, str(path)) if is_compressed(vertex) else vertex
    raw, others, degree = from_columns(columns, str(path))
    notices = []
    if degree > 3:
        notices.append(f"{path}: harmonics of degree {degree} are cut to degree 3")
    raw, others = _usable_rows(raw, others, str(path), notices)
    written = DISCS_COMMENT in file.comments or not keep_flat
    raw, kind, notice = _classified(raw, written)
    rotation = stated_rotation(file.comments, str(path))
    if rotation is not None:
        raw = transformed(raw, rotation.T)
        notice = "is a file for viewers; its splats are turned back to the run's coordinates"
    if notice:
        notices.append(f"{path}: {notice}")
    origin = stated_origin(file.comments, str(path))
    frame = None if origin is None else SceneFrame(origin)
    _say_coarse(raw, str(path), notices)
    labels = _labels(others)
    extra = {name: others[name] for name in others if labels is None or name != LABEL_COLUMN}
    return SplatFile(raw, kind, labels, extra, file.comments, frame, tuple(notices))


def read_discs(
    path: str | Path, flatten: bool = False, frame: SceneFrame | None = None
) -> SplatFile:
    """`read_splats` for a program of discs: 3D Gaussians are refused, or made flat if `flatten`.

    `frame` moves the splats to its origin; None leaves them. Raises FormatError, DataError.
    """
    file = read_splats(path)
    if file.kind == "3dgs" and not flatten:
        raise FormatError(
            f"{path}: holds 3D Gaussians (three scales, none of them flat) and not discs; "
            "train.py --start_ply takes them as they are with --primitive 3dgs, and leaves out the "
            "shortest axis of each with --flatten_ply"
        )
    file = flattened(file, str(path))
    return file if frame is None else in_frame(file, frame, str(path))


def read_kind(
    path: str | Path, kind: Kind | None, flatten: bool = False, frame: SceneFrame | None = None
) -> SplatFile:
    """`read_splats` for a program of one kind of splats, or None for any; see `read_discs`.

    Three scales are ellipsoids for a program of those, however flat. Raises FormatError for discs
    there, also for those that got a thickness for viewers.
    """
    if kind == "2dgs":
        return read_discs(path, flatten, frame)
    file = read_splats(path, keep_flat=kind is not None)
    if file.kind == "2dgs" and kind is not None:
        raise FormatError(
            f"{path}: holds discs (two scales, or a third that is a thickness for viewers) and "
            "not 3D Gaussians; --primitive 2dgs takes them as they are"
        )
    return file if frame is None else in_frame(file, frame, str(path))


def flattened(file: SplatFile, path: str) -> SplatFile:
    """3D Gaussians as discs: each without the shortest of its three axes, with a notice."""
    if file.kind == "2dgs":
        return file
    scales = file.raw["log_scales"]
    notice = (
        f"{path}: 3D Gaussians made flat: the shortest axis of each of {len(file)} splats is left "
        f"out (median thickness {100 * thickness(scales):.0f} % of the next axis)"
    )
    raw = without_axis(file.raw, scales.argmin(axis=1))
    return dataclasses.replace(file, raw=raw, kind="2dgs", notices=(*file.notices, notice))


def in_frame(file: SplatFile, frame: SceneFrame, path: str) -> SplatFile:
    """The splats in the coordinates of a run of this `frame`, moved between the two origins.

    A file that does not name its origin is in the scene's own coordinates or already in those of
    such a run (whose scene lies round zero), whichever its splats are nearer to.
    """
    if file.frame is not None:
        origin = np.array(file.frame.origin)
    else:
        center = np.median(file.raw["means"].astype(np.float64), axis=0)
        is_local = np.linalg.norm(center) < np.linalg.norm(center - frame.origin)
        origin = np.array(frame.origin if is_local else (0.0, 0.0, 0.0))
    offset = origin - np.array(frame.origin)
    moved = dataclasses.replace(file, frame=frame)
    if not offset.any():
        return moved
    notice = f"{path}: moved by {offset.tolist()} to the origin of the scene"
    raw = transformed(file.raw, translation=offset)
    return dataclasses.replace(moved, raw=raw, notices=(*file.notices, notice))


def write_splats(
    path: str | Path,
    raw: Arrays,
    *,
    viewer: bool = False,
    labels: np.ndarray | None = None,
    extra: Arrays | None = None,
    frame: SceneFrame | None = None,
    comments: Sequence[str] = (),
) -> None:
    """Write splats (`raw` as in `GaussianModel.params`) as a PLY, atomically.

    Plain files keep the run's coordinates. With `viewer` they are turned so that the frame's up
    becomes -y and get the columns that viewers need; comments tell how to undo it, after those
    that are given. A full disk is a RunError that says how much is missing.
    """
    said = frame_comments(frame)
    if viewer:
        rotation = upright_rotation(frame)
        raw = transformed(raw, rotation)
        said = viewer_comments(frame, rotation, flat=raw["log_scales"].shape[1] == 2)
    if labels is not None:
        said.append(f"IQGS: {LABEL_COLUMN} is the id of the object in the masks, 0 is none")
    columns = to_columns(raw, viewer, labels, extra)
    size = len(raw["means"]) * row_bytes(columns)
    atomic_write(path, lambda stream: dump_ply(stream, columns, [*comments, *said]), size)


def _usable_rows(
    raw: Arrays, others: Arrays, path: str, notices: list[str]
) -> tuple[Arrays, Arrays]:
    """The rows that can be rendered. Infinities that mean something are given numbers before."""
    n = len(raw["means"])
    # Tools write an opacity of 1 as an infinite logit, and a disc's third scale as minus infinity.
    logits = raw["opacity_logits"]
    infinite = np.isinf(logits)
    logits[infinite] = np.sign(logits[infinite]) * np.float32(OPAQUE_LOGIT)
    if raw["log_scales"].shape[1] == 3:
        raw["log_scales"] = with_thickness(raw["log_scales"])
    with np.errstate(over="ignore", invalid="ignore"):
        # Reductions over all values are many times as fast as those of short rows.
        squares = np.einsum("ij,ij->i", raw["quaternions"], raw["quaternions"])
        good = (squares > _QUATERNION_SQUARES[0]) & (squares < _QUATERNION_SQUARES[1])
        if not raw["log_scales"].max(initial=0) < MAX_LOG_SCALE:
            good &= (raw["log_scales"] < MAX_LOG_SCALE).all(axis=1)
        for array in raw.values():
            if not np.isfinite(array.sum()):
                good &= np.isfinite(array).reshape(n, -1).all(axis=1)
    if good.all():
        return raw, others
    if not good.any():
        raise FormatError(f"{path}: none of the {n} splats has finite values throughout")
    notices.append(f"{path}: {n - int(good.sum())} of {n} splats are not finite and are left out")
    return (
        {name: array[good] for name, array in raw.items()},
        {name: column[good] for name, column in others.items()},
    )


def _classified(raw: Arrays, any_flat: bool) -> tuple[Arrays, Kind, str]:
    """Discs as discs, the kind, and what to say about it; `any_flat`: whatever made them flat."""
    scales = raw["log_scales"]
    if scales.shape[1] == 2:
        return raw, "2dgs", ""
    axes = None
    if any_flat or written_thickness(scales) is not None:
        axes = normal_axes(scales)
    if axes is None:
        return raw, "3dgs", ""
    notice = "one of the three scales is flat, so the splats are read as discs"
    turned = int((axes != 2).sum())
    if turned:
        notice += f"; the normal of {turned} of them was another axis than the third"
    return without_axis(raw, axes), "2dgs", notice


def _say_coarse(raw: Arrays, path: str, notices: list[str]) -> None:
    """A notice where float32 cannot place splats as finely as they are small."""
    reach = max(raw["means"].max(), -raw["means"].min())
    step, longest = np.spacing(reach), raw["log_scales"][:, 0]
    if step < 1e-3 * _COARSE * np.exp(np.median(longest[:: max(1, len(longest) // 4096)])):
        return  # far from it: some splats speak for all
    for axis in range(1, raw["log_scales"].shape[1]):
        longest = np.maximum(longest, raw["log_scales"][:, axis])
    size = float(np.exp(np.median(longest)))
    if step > _COARSE * size:
        notices.append(
            f"{path}: coordinates up to {reach:.3g} are kept in steps of {step:.1g}, coarse for "
            f"splats of {size:.2g}; move them to the origin before"
        )


def _labels(others: Arrays) -> np.ndarray | None:
    """Column `instance` as int32; editors may have made it a float. None where it is no id."""
    column = others.get(LABEL_COLUMN)
    if column is None:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        labels = column.astype(np.int32)
    return labels if np.array_equal(labels, column) else None
