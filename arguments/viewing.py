# SPDX-License-Identifier: Apache-2.0
"""The options of the commands that show the objects of a run."""

from __future__ import annotations

from dataclasses import dataclass

from arguments.levels import LevelParams
from arguments.options import OneLineParser, option, parse_record, require


@dataclass(frozen=True)
class PageParams(LevelParams):
    """Which page goes where."""

    model_path: str = option("", "run folder", short="m")
    output: str = option("", "file to write; empty: RUN/objects/index.html", short="o")
    levels: bool = option(True, "a slider from groups of neighbours to parts of objects")
    title: str = option("", "what the page is called; empty: the run folder's name")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_path), "model_path (-m)", "", "the run folder")


@dataclass(frozen=True)
class ViewParams(LevelParams):
    """What is shown where."""

    model_path: str = option("", "run folder", short="m")
    levels: bool = option(True, "a slider from groups of neighbours to parts of objects")
    port: int = option(8080, "port on 127.0.0.1; the next free one where it is taken")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_path), "model_path (-m)", "", "the run folder")
        require(1 <= self.port <= 65535, "port", self.port, "in 1..65535")


def parse_page_arguments(arguments: list[str] | None = None) -> PageParams:
    """The command line of `export_html.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="export_html.py",
        description="Write one HTML file that shows a run's splats and objects in any browser.",
    )
    params: PageParams = parse_record(parser, PageParams, arguments)
    return params


def parse_view_arguments(arguments: list[str] | None = None) -> ViewParams:
    """The command line of `view.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="view.py", description="Show a run's splats and objects in a browser, until Ctrl-C."
    )
    params: ViewParams = parse_record(parser, ViewParams, arguments)
    return params
