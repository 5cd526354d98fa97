# SPDX-License-Identifier: Apache-2.0
"""The options of `evaluate.py`, which describe a measurement and never change a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arguments.opening import OpeningParams, parse_with_overrides
from arguments.options import OneLineParser, option, require, require_at_least

BESIDE_RUN = "RUN/report.html"  # what --report means without a file
FORMATS = ("text", "json", "csv", "markdown", "latex")
PROTOCOL_NAMES = ("iqgs", "lerf-mask", "panoptic-lifting", "nvos", "spin-nerf", "scannetpp")


@dataclass(frozen=True)
class EvaluationParams(OpeningParams):
    """What `evaluate.py` measures and how it prints it."""

    model_paths: tuple[str, ...] = option((), "run folders", short="m")
    split: str = option(
        "test", "views to score; train is labelled as such", choices=("test", "train")
    )
    gt_path: str = option(
        "",
        "folder of true masks (scannetpp: or file of labelled points), in the scene or absolute; "
        "empty: object_mask, or else -o; other protocols: where docs/evaluation.md says",
    )
    ground_truth: str = option(
        "",
        "kind of ground truth to print; empty: what the scene says",
        choices=("", "human", "synthetic", "pseudo"),
    )
    matching: str = option(
        "",
        "which true instance a predicted one is compared with; empty: id where the method's ids "
        "are those of the masks, else scene",
        choices=("", "id", "view", "scene"),
    )
    protocol: str = option(
        "iqgs", "a published way of scoring (docs/evaluation.md)", choices=PROTOCOL_NAMES
    )
    id: tuple[str, ...] = option(
        (),
        "nvos, spin-nerf: numbers or names of the objects of the run that together are the one "
        "that is scored; empty: what the reference view points at",
    )
    object: str = option(
        "", "nvos: labelled object to score; empty: those that are named after the scene"
    )
    min_area: int = option(1, "smaller predicted instances of a view are dropped")
    min_points: int = option(100, "scannetpp: smaller instances are left out, on both sides")
    state: str = option(
        "trained",
        "edited: score the splats and objects that edit.py left, by their labels",
        choices=("edited", "trained"),
    )
    vote: bool = option(True, "print the closed-form vote on the same splats")
    oracle: bool = option(
        False, "print what the splats can do at best: the vote of the true masks that are scored"
    )
    decoder: str = option(
        "", "score the runs with the decoder of this run, matched per scene (Table 2 of the paper)"
    )
    objects: bool = option(True, "print the per-object table of a single run")
    predictions: str = option(
        "",
        "lerf-mask: folder of predicted masks, <view>/<prompt>.png; "
        "empty: <run>/test/ours_N_text/test_mask",
    )
    format: str = option("text", "form of the table", choices=FORMATS)
    output: str = option("", "write the table there instead of printing it")
    report: str = option(
        "",
        "also write one HTML page with curves, objects, confusion and the worst views; without a "
        f"file name {BESIDE_RUN} of the first run",
        bare=BESIDE_RUN,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_paths), "model_paths (-m)", "", "one or more run folders")
        require_at_least(self, 1, "min_area", "min_points")
        single = self.protocol in ("nvos", "spin-nerf")
        asked = f"--protocol {self.protocol}"
        plain = not single and self.protocol != "scannetpp"
        require(plain or not self.matching, "matching", self.matching, f"left out with {asked}")
        require(plain or self.split == "test", "split", self.split, f"left out with {asked}")
        require(single or not self.id, "id", self.id, f"left out with {asked}")
        only = self.protocol == "nvos" or not self.object
        trained = self.state == "trained" or (self.protocol == "iqgs" and not self.decoder)
        require(trained, "state", self.state, "trained but with --protocol iqgs and no --decoder")
        require(only, "object", self.object, "left out but with --protocol nvos")


def parse_evaluation_arguments(
    arguments: list[str] | None = None,
) -> tuple[EvaluationParams, dict[str, Any]]:
    """The command line of `evaluate.py`, and the settings of the runs that it overrides.

    A wrong one is a `UserError`.
    """
    parser = OneLineParser(prog="evaluate.py", description="Score runs and print their table.")
    return parse_with_overrides(parser, EvaluationParams, arguments)
