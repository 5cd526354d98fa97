# SPDX-License-Identifier: Apache-2.0
"""What the comments of a splat PLY say about its coordinates, and the turn that viewers expect.

Viewers of 3D Gaussians (SuperSplat and its kin) take the photographs' y axis, which points down,
for that of the scene: a scene stands upright there if its up is -y.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from scene.frame import SceneFrame
from scene.splat_files.similarity import checked_rotation
from utils.errors import FormatError

_VIEWER_UP = np.array([0.0, -1.0, 0.0])
DISCS_COMMENT = "SplatRenderMode: 2dgs"
_UP, _UP_COMMENT, _UP_UNKNOWN = "IQGS: up is", "IQGS: up is -y", "IQGS: up is unknown"
_ROTATION, _ORIGIN = "IQGS rotation:", "IQGS origin:"


def upright_rotation(frame: SceneFrame | None) -> np.ndarray:
    """The smallest rotation [3, 3] that takes the frame's up to -y; none where up is unknown."""
    if frame is None or frame.up is None:
        return np.eye(3)
    from scipy.spatial.transform import Rotation  # slow to import, and few turn splats

    up = np.asarray(frame.up, np.float64)
    up = up / np.linalg.norm(up)
    axis, cosine = np.cross(up, _VIEWER_UP), float(up @ _VIEWER_UP)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-12:  # half a turn has no axis of its own: about x, which keeps left and right
        return np.eye(3) if cosine > 0 else np.diag([1.0, -1.0, -1.0])
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, cosine)).as_matrix()


def frame_comments(frame: SceneFrame | None) -> list[str]:
    """Comments of a file whose coordinates are the run's; none where these are the scene's."""
    if frame is None or not any(frame.origin):
        return []
    return [_origin_comment(frame), "IQGS: position in the scene's files = position + origin"]


def viewer_comments(frame: SceneFrame | None, rotation: np.ndarray, flat: bool = True) -> list[str]:
    """Comments of a file for viewers, turned by `rotation` from the run's coordinates.

    `SplatRenderMode` and `Vertical axis` are spelled as Brush writes and reads them: y says -y up.
    Where the splats are not `flat` discs, nothing need be said of how to render them.
    """
    known = frame is not None and frame.up is not None
    numbers = " ".join(f"{value:.17g}" for value in rotation.ravel())
    discs = [
        "IQGS: 2D Gaussians with a third, vanishing scale for viewers of 3D Gaussians",
        DISCS_COMMENT,
    ]
    return [
        *(discs if flat else []),
        *(["Vertical axis: y", _UP_COMMENT] if known else [_UP_UNKNOWN]),
        "IQGS: lengths are in the units of the scene's files",
        "IQGS: position in the scene's files = transposed rotation * position + origin",
        f"{_ROTATION} {numbers}",
        _origin_comment(frame or SceneFrame()),
    ]


def stated_rotation(comments: Sequence[str], path: str) -> np.ndarray | None:
    """The rotation [3, 3] by which `viewer_comments` say that a file was turned; None without.

    Raises FormatError where the numbers are not those of a rotation.
    """
    numbers = _numbers(comments, _ROTATION, 9, path)
    if numbers is None:
        return None
    try:
        return checked_rotation(numbers.reshape(3, 3))
    except ValueError:
        raise FormatError(f"{path}: the comment {_ROTATION!r} holds no rotation") from None


def stated_up(comments: Sequence[str], path: str) -> tuple[float, float, float] | None:
    """The run's up [3] as a file for viewers tells it; None where it does not. FormatError."""
    rotation = stated_rotation(comments, path)
    if rotation is not None:
        up = rotation.T @ _VIEWER_UP if _UP_COMMENT in comments else None
    else:
        up = None if _UP_UNKNOWN in comments else _numbers(comments, _UP, 3, path)
    if up is None:
        return None
    x, y, z = up.tolist()
    return (x, y, z)


def up_comment(frame: SceneFrame) -> str:
    """The up of a file in the run's coordinates."""
    return _UP_UNKNOWN if frame.up is None else f"{_UP} {' '.join(f'{v:.9g}' for v in frame.up)}"


def stated_origin(comments: Sequence[str], path: str) -> tuple[float, float, float] | None:
    """The origin that comments of this program name; None without. Raises FormatError."""
    numbers = _numbers(comments, _ORIGIN, 3, path)
    if numbers is None:
        return None
    x, y, z = numbers.tolist()
    return (x, y, z)


def _origin_comment(frame: SceneFrame) -> str:
    return f"{_ORIGIN} {' '.join(f'{value:.17g}' for value in frame.origin)}"


def _numbers(comments: Sequence[str], prefix: str, count: int, path: str) -> np.ndarray | None:
    found = [comment[len(prefix) :] for comment in comments if comment.startswith(prefix)]
    if not found:
        return None
    words = found[-1].split()
    pattern = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?")
    try:
        if len(words) != count or not all(pattern.fullmatch(word) for word in words):
            raise ValueError
        numbers = np.array([float(word) for word in words])
    except ValueError:
        raise FormatError(f"{path}: the comment {prefix!r} must give {count} numbers") from None
    if not np.isfinite(numbers).all():
        raise FormatError(f"{path}: the comment {prefix!r} must give {count} finite numbers")
    return numbers
