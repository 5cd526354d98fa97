# SPDX-License-Identifier: Apache-2.0
"""The options of `evaluate.py`, which describe a measurement and never change a run."""

from __future__ import annotations

from dataclasses import dataclass, fields

from arguments.parser import OneLineParser
from utils.errors import UserError

FORMATS = ("text", "json", "csv", "markdown", "latex")


@dataclass(frozen=True)
class EvaluationParams:
    """What `evaluate.py` measures and how it prints it."""

    model_paths: tuple[str, ...]
    iteration: int = -1  # -1: the newest complete one
    split: str = "test"  # test | train
    gt_path: str = ""  # folder of true masks; empty: the scene's object_mask
    ground_truth: str = ""  # kind to print: human | synthetic | pseudo; empty: what the scene says
    matching: str = ""  # id | view | scene; empty: id for ID matching, scene for Hungarian
    protocol: str = "iqgs"
    min_area: int = 1
    vote: bool = True  # print the closed-form vote on the same splats
    objects: bool = True  # print the per-object table of a single run
    predictions: str = ""  # lerf-mask: folder of predicted masks
    format: str = "text"
    output: str = ""
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.model_paths:
            raise UserError("-m/--model_paths is missing: name one or more run folders")
        if self.min_area < 1:
            raise UserError(f"--min_area must be at least 1, got {self.min_area}")


def parse_evaluation_arguments(arguments: list[str] | None = None) -> EvaluationParams:
    """The command line of `evaluate.py`; a wrong one is a `UserError`."""
    parser = OneLineParser(prog="evaluate.py", description="Score runs and print their table.")
    defaults = {field.name: field.default for field in fields(EvaluationParams)}
    parser.add_argument("-m", "--model_paths", nargs="+", default=[], help="run folders")
    parser.add_argument(
        "--split",
        choices=("test", "train"),
        default=defaults["split"],
        help="views to score; train is labelled as such",
    )
    parser.add_argument(
        "--gt_path",
        default="",
        help="folder of true masks, in the scene or absolute (default: the scene's object_mask)",
    )
    parser.add_argument(
        "--ground_truth",
        choices=("", "human", "synthetic", "pseudo"),
        default="",
        help="kind of ground truth to print (default: what the scene says)",
    )
    parser.add_argument(
        "--matching",
        choices=("", "id", "view", "scene"),
        default="",
        help="which true instance a predicted one is compared with",
    )
    parser.add_argument(
        "--protocol",
        choices=("iqgs", "lerf-mask", "panoptic-lifting"),
        default=defaults["protocol"],
        help="a published way of scoring",
    )
    parser.add_argument(
        "--predictions",
        default="",
        help="lerf-mask: folder of predicted masks, "
        "<view>/<prompt>.png (default: <run>/test/ours_N_text/test_mask)",
    )
    parser.add_argument("--iteration", type=int, default=-1, help="-1: the newest")
    parser.add_argument(
        "--min_area",
        type=int,
        default=defaults["min_area"],
        help="smaller predicted instances of a view are dropped",
    )
    parser.add_argument(
        "--no-vote", dest="vote", action="store_false", help="leave the closed-form vote out"
    )
    parser.add_argument(
        "--no-objects", dest="objects", action="store_false", help="leave the per-object table out"
    )
    parser.add_argument("--format", choices=FORMATS, default=defaults["format"])
    parser.add_argument("--output", default="", help="write the table there instead of printing")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default=defaults["device"])
    values = vars(parser.parse_args(arguments))
    return EvaluationParams(**{**values, "model_paths": tuple(values["model_paths"])})
