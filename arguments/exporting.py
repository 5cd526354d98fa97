# SPDX-License-Identifier: Apache-2.0
"""The options of the commands that take objects out of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from arguments.levels import LevelParams
from arguments.meshing import MeshParams
from arguments.options import OneLineParser, option, parse_record, require

# Packed ones are written by another program; .usd is a binary OpenUSD file.
PACKED = ("compressed.ply", "sog", "spz", "html", "csv")
FORMATS = ("ply", "glb", "usd", "usda", "usdc", "usdz", *PACKED)
MESH_FORMATS = ("glb", "ply")


@dataclass(frozen=True)
class ExtractParams(LevelParams):
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


@dataclass(frozen=True)
class ExportParams(MeshParams, LevelParams):
    """Which splats or surfaces go where, and as what."""

    model_path: str = option("", "run folder, or a PLY of splats with `instance`", short="m")
    id: tuple[str, ...] = option((), "objects by number or name; none: the whole scene")
    format: str = option("auto", "auto: the suffix of -o", choices=("auto", *FORMATS))
    as_3dgs: bool = option(False, "discs as thin 3D Gaussians; PLY: the columns of viewers, -y up")
    output: str = option("", "file to write; empty: RUN/exports/NAME.FORMAT", short="o")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_path), "model_path (-m)", "", "the run folder")
        source = not Path(self.model_path).is_file() or not self.level
        require(source, "level", self.level, "left out for a file, which has one level only")
        require(self.file_format in FORMATS, "output (-o)", self.output, self._known)
        if self.mesh:
            allowed = self.file_format in MESH_FORMATS
            require(allowed, "format", self.file_format, f"one of {MESH_FORMATS} with --mesh")

    @property
    def _known(self) -> str:
        return f"a file of one of the formats {', '.join(FORMATS)}, or --format is needed"

    @property
    def file_format(self) -> str:
        """The format in one word; empty where nothing tells."""
        if self.format != "auto":
            return self.format
        name = self.output.lower()
        ends = [word for word in FORMATS if name.endswith(f".{word}")]
        return max(ends, key=len, default="")


def parse_export_arguments(arguments: list[str] | None = None) -> ExportParams:
    """The command line of `export.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="export.py",
        description="Write the splats of a run, or of some of its objects, for other programs.",
    )
    params: ExportParams = parse_record(parser, ExportParams, arguments)
    return params


@dataclass(frozen=True)
class ObjectsParams(MeshParams, LevelParams):
    """What the folder of all objects holds."""

    model_path: str = option("", "run folder", short="m")
    mesh: bool = option(True, "a mesh of each object; without, splats and hulls of splats only")
    hull: str = option(
        "convex",
        "round each object: its convex hull, or convex pieces by the package coacd (slow)",
        choices=("convex", "pieces", "none"),
    )
    output: str = option("", "folder to write into; empty: RUN/objects", short="o")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.model_path), "model_path (-m)", "", "the run folder")


def parse_objects_arguments(arguments: list[str] | None = None) -> ObjectsParams:
    """The command line of `objects.py`. A wrong one is a `UserError`."""
    parser = OneLineParser(
        prog="objects.py",
        description="Write every object of a run as files, and a page to click through them.",
    )
    params: ObjectsParams = parse_record(parser, ObjectsParams, arguments)
    return params
