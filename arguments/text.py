# SPDX-License-Identifier: Apache-2.0
"""The options of the command that finds objects by texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arguments.opening import OpeningParams, parse_with_overrides
from arguments.options import OneLineParser, option, require, require_at_least
from utils.errors import UserError


@dataclass(frozen=True)
class TextParams(OpeningParams):
    """Which texts, who knows what they mean, and what is written."""

    model_path: str = option("", "run folder", short="m")
    prompts: tuple[str, ...] = option(
        (), "texts, each in quotes; none: those of --masks, else those of the scene's test_mask"
    )
    masks: str = option("", "folder of masks <view>/<text>.png of any of the views")
    command: str = option(
        "", "a program that makes them: 'prog {image} {prompt} {output}' writes one binary PNG"
    )
    command_timeout: float = option(600.0, "seconds that the program may take for one photograph")
    clip: str = option(
        "", "folder of weights of the CLIP family, which score pictures of the objects"
    )
    threshold: float = option(
        0.5, "share of an object that the masks must cover, or relevancy that it must have"
    )
    ask: str = option(
        "train", "views that are asked, where there are masks", choices=("train", "test", "all")
    )
    name: bool = option(
        False,
        "call each object by the text that fits it best, as edits of the run (`edit.py undo`)",
    )
    most_views: int = option(0, "ask so many views, evenly spread; 0: all (--clip: 30)")
    render: bool = option(
        True, "also write RUN/test/ours_N_text/test_mask/<view>/<text>.png of the held-out views"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_path), "model_path (-m)", "", "the run folder")
        sources = [name for name in ("masks", "command", "clip") if getattr(self, name)]
        if len(sources) != 1:
            given = " and ".join(f"--{name}" for name in sources) or "none"
            raise UserError(
                "who knows what the texts mean? give one of --masks, --command and --clip; "
                f"{given} is given"
            )
        require_at_least(self, 0, "most_views")
        require(0 < self.threshold <= 1, "threshold", self.threshold, "above 0 and at most 1")
        require(self.command_timeout > 0, "command_timeout", self.command_timeout, "positive")
        for place in ("{image}", "{prompt}", "{output}") if self.command else ():
            require(place in self.command, "command", self.command, f"a command with {place}")
        for prompt in self.prompts:
            fine = bool(prompt.strip()) and not set(prompt) & set("/\\\0") and prompt[0] != "."
            require(fine, "prompts", prompt, "words that can be the name of a file")


def parse_text_arguments(
    arguments: list[str] | None = None,
) -> tuple[TextParams, dict[str, Any]]:
    """The command line of `find_text.py`, and the settings of the run that it overrides.

    A wrong one is a `UserError`.
    """
    parser = OneLineParser(
        prog="find_text.py",
        description="Find the objects of a run that texts mean, by a vote over views.",
    )
    return parse_with_overrides(parser, TextParams, arguments)
