# SPDX-License-Identifier: Apache-2.0
"""The options of `render.py`, which describe pictures and never change a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arguments.levels import STATES, LevelParams
from arguments.meshing import MeshParams
from arguments.opening import parse_with_overrides
from arguments.options import OneLineParser, option, require, require_at_least


@dataclass(frozen=True)
class RenderParams(MeshParams, LevelParams):
    """What `render.py` writes."""

    model_path: str = option("", "run folder", short="m")
    state: str = option(
        "auto",
        "edited: as edit.py left the run, in ours_N_edited; trained: as training left it, in "
        "ours_N; auto: edited where there are edits",
        choices=STATES,
    )
    skip_train: bool = option(False, "leave the training views out")
    skip_test: bool = option(False, "leave the held-out views out")
    render_path: bool = option(
        False, "also a video along an ellipse round what the cameras look at"
    )
    path_frames: int = option(120, "frames of that video")
    fps: int = option(24, "frames per second")
    masks: bool = option(False, "also one binary mask per instance and view, masks/<view>/<id>.png")
    exposure: bool = option(
        False, "training views as their cameras took them, after train.py --exposure"
    )
    skip_mesh: bool = option(False, "a mesh is made with --mesh only", inert=True)
    num_classes: int = option(0, "the method knows how many objects there are", inert=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_path), "model_path (-m)", "", "the run folder")
        require_at_least(self, 1, "path_frames", "fps")

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits to write, in order."""
        wanted = {"train": not self.skip_train, "test": not self.skip_test}
        return tuple(name for name, write in wanted.items() if write)


def parse_render_arguments(
    arguments: list[str] | None = None,
) -> tuple[RenderParams, dict[str, Any]]:
    """The command line of `render.py`, and the settings of the run that it overrides.

    A wrong command line is a `UserError`.
    """
    parser = OneLineParser(
        prog="render.py", description="Write the pictures of a run: colour, ids, depth, normals."
    )
    return parse_with_overrides(parser, RenderParams, arguments)
