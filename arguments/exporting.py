# SPDX-License-Identifier: Apache-2.0
"""The options of the commands that take objects out of a run."""

from __future__ import annotations

from dataclasses import dataclass

from arguments.opening import OpeningParams
from arguments.options import OneLineParser, option, parse_record, require


@dataclass(frozen=True)
class ExtractParams(OpeningParams):
    """Which object goes where."""

    model_path: str = option("", "run folder", short="m")
    id: str = option("", "number of the object in the masks, or its name")
    output: str = option("", "file to write; empty: RUN/objects/ID.ply", short="o")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_path), "model_path (-m)", "", "the run folder")
        require(bool(self.id), "id", "", "an object's number or name")


def parse_extract_arguments(arguments: list[str] | None = None) -> ExtractParams:
    """The command line of `extract_object.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="extract_object.py", description="Write the splats of one object as a PLY."
    )
    params: ExtractParams = parse_record(parser, ExtractParams, arguments)
    return params
