# SPDX-License-Identifier: Apache-2.0
"""The options of `convert.py`, which finds the poses of photographs."""

from __future__ import annotations

from dataclasses import dataclass

from arguments.options import OneLineParser
from utils.errors import UserError

MODELS = (
    *("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"),
    *("FULL_OPENCV", "FOV", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE"),
)


@dataclass(frozen=True)
class ConversionParams:
    """What `convert.py` does with a folder of photographs."""

    source_path: str
    camera_model: str = "OPENCV"
    cameras: str = "auto"  # auto | single | per_folder | per_image: who shares a calibration
    pairing: str = "exhaustive"  # exhaustive | sequential
    solver: str = "auto"  # auto | pycolmap | colmap
    colmap_executable: str = ""  # empty: `colmap` of the PATH
    resize: bool = False
    no_gpu: bool = False
    threads: int = 0
    overwrite: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise UserError(f"--threads must be 0 or positive, got {self.threads}")


def parse_conversion_arguments(arguments: list[str] | None = None) -> ConversionParams:
    """The command line of `convert.py`. A wrong one is a `UserError`."""
    default = ConversionParams("")
    parser = OneLineParser(
        prog="convert.py",
        description="Find the poses of photographs with COLMAP, and leave a scene to train on.",
    )
    parser.add_argument(
        "-s",
        "--source_path",
        required=True,
        help="folder whose input/ (or images/, or itself) holds the photographs",
    )
    parser.add_argument(
        *("--camera_model", "--camera"), default=default.camera_model, choices=MODELS, help="lens"
    )
    parser.add_argument(
        "--cameras",
        default=default.cameras,
        choices=("auto", "single", "per_folder", "per_image"),
        help="which photographs share one calibration; auto: all, if sizes and lenses agree",
    )
    parser.add_argument(
        "--pairing",
        default=default.pairing,
        choices=("exhaustive", "sequential"),
        help="compare all pairs, or neighbours by name as in a video",
    )
    parser.add_argument(
        "--solver", default=default.solver, choices=("auto", "pycolmap", "colmap"), help="who"
    )
    parser.add_argument(
        "--colmap_executable", default=default.colmap_executable, help="if not on the PATH"
    )
    parser.add_argument("--threads", type=int, default=default.threads, help="CPU threads; 0: all")
    for name, text in {
        "resize": "also images_2, images_4, images_8: smaller copies",
        "no_gpu": "keep COLMAP from using a GPU",
        "overwrite": "start anew, and replace the images/ and sparse/ of an earlier conversion",
        "quiet": "no progress bars",
    }.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return ConversionParams(**vars(parser.parse_args(arguments)))
