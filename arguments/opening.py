# SPDX-License-Identifier: Apache-2.0
"""The options that every command on a finished run has."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from arguments.groups import ModelParams, PipelineParams
from arguments.options import add_options, option, options_of, parse_typed, require_at_least


@dataclass(frozen=True)
class OpeningParams:
    """How a run is opened."""

    iteration: int = option(-1, "iteration to load; -1: the newest")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "CPU threads; 0: all")
    quiet: bool = option(False, "no progress bar")

    def __post_init__(self) -> None:
        require_at_least(self, 0, "threads")


def parse_with_overrides(
    parser: argparse.ArgumentParser, record: type, arguments: list[str] | None
) -> tuple[Any, dict[str, Any]]:
    """Parse a command's own record, and the settings of the run that the command line changes.

    The flags of the scene (`-s`, `-i`, `-r` ...) and of the renderer are those of `train.py`.
    """
    own = {field.name for field in options_of(record)}
    add_options(parser, record)
    for title, group in (("model", ModelParams), ("pipeline", PipelineParams)):
        words = "what the run was trained with, where something has to be different now"
        taken = own | ({"model_path"} if "model_paths" in own else set())
        add_options(parser.add_argument_group(title, words), group, leave_out=taken)
    typed = parse_typed(parser, arguments)
    overrides = {key: value for key, value in typed.items() if key not in own}
    return record(**{key: value for key, value in typed.items() if key in own}), overrides
