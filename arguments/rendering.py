# SPDX-License-Identifier: Apache-2.0
"""The options of `render.py`, which describe pictures and never change a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arguments.parser import OneLineParser, add_groups
from utils.errors import UserError


@dataclass(frozen=True)
class RenderParams:
    """What `render.py` writes."""

    model_path: str
    iteration: int = -1  # -1: the newest complete one
    skip_train: bool = False
    skip_test: bool = False
    render_path: bool = False  # a video along an ellipse round what the cameras look at
    path_frames: int = 120
    fps: int = 24
    masks: bool = False  # one binary picture per instance and view
    quiet: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("path_frames", "fps"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, got {getattr(self, name)}")

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
    add_groups(parser, ("model", "pipeline"))
    parser.add_argument("--device", default=RenderParams.device, choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--iteration",
        type=int,
        default=RenderParams.iteration,
        help="iteration to load; -1: the newest",
    )
    parser.add_argument(
        "--path_frames",
        type=int,
        default=RenderParams.path_frames,
        help="frames of the video along a path",
    )
    parser.add_argument("--fps", type=int, default=RenderParams.fps, help="frames per second")
    for name, text in {
        "skip_train": "leave the training views out",
        "skip_test": "leave the held-out views out",
        "render_path": "also a video along an ellipse round what the cameras look at",
        "masks": "also one binary mask per instance and view, masks/<view>/<id>.png",
        "quiet": "no progress bar",
    }.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    # Gaussian Grouping's render takes it; here the method knows how many objects there are
    parser.add_argument("--num_classes", type=int, help="accepted for compatibility")
    values = vars(parser.parse_args(arguments))
    if "model_path" not in values:
        raise UserError("-m/--model_path is missing: name the run folder (see render.py --help)")
    own = {field: values.pop(field) for field in RenderParams.__dataclass_fields__}
    del values["num_classes"]
    return RenderParams(**own), values
