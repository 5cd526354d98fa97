# SPDX-License-Identifier: Apache-2.0
"""The options of the commands that make, join, check and convert the masks of a scene.

The command lines themselves are in `mask_commands`.
"""

from __future__ import annotations

from dataclasses import dataclass

from arguments.options import option, require, require_at_least

METHODS = ("sam", "sam2", "sam3", "command")
SIDE = 4096  # a grid of more points a side would take days


@dataclass(frozen=True)
class ProposalParams:
    """Where masks come from, and where they go."""

    object_path: str = option(
        "object_mask_raw", "sub-folder to write: one id for each pixel, 16 bits", short="o"
    )
    layers: bool = option(
        True, "also write OBJECT_PATH_layers/: all masks, which may overlap, with scores and levels"
    )
    only: tuple[str, ...] = option((), "names of photographs, * and ? allowed; none: all")
    method: str = option("sam", "who proposes masks", choices=METHODS)
    checkpoint: str = option("", "weights: a .pth file of sam, a folder of sam2 or sam3")
    allow_download: bool = option(
        False, "--checkpoint may be a name on the Hugging Face hub that is downloaded"
    )
    video: bool = option(
        False, "sam2, sam3: the photographs in the order of their names are a video; ids are kept"
    )
    command: str = option("", "--method command: a program with {image} and {output}")
    command_timeout: float = option(600.0, "seconds that the program may take for one photograph")
    contact_sheet: int = option(6, "photographs on the picture of all masks; 0: no picture")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))
    threads: int = option(0, "CPU threads; 0: all")
    overwrite: bool = option(False, "start anew, also over masks of another program")
    quiet: bool = option(False, "no progress bar")

    def __post_init__(self) -> None:
        require_at_least(self, 0, "threads", "contact_sheet")
        require(self.command_timeout > 0, "command_timeout", self.command_timeout, "positive")
        inside = bool(self.object_path) and _is_inside(self.object_path)
        require(inside, "object_path (-o)", self.object_path, "a folder inside the scene")
        if self.method == "command":
            require(
                bool(self.command), "command", "", "the program, as 'prog {image} {output}.png'"
            )
            for place in ("{image}", "{output}"):
                require(place in self.command, "command", self.command, f"a command with {place}")
        require(
            not self.video or self.method in ("sam2", "sam3"),
            "video",
            self.video,
            "left out with --method " + self.method,
        )


def layers_folder(object_path: str) -> str:
    """Where the overlapping masks behind the id maps of a folder are."""
    return f"{object_path.rstrip('/')}_layers"


def _is_inside(folder: str) -> bool:
    parts = folder.replace("\\", "/").split("/")
    return not folder.startswith(("/", "\\")) and ".." not in parts


@dataclass(frozen=True)
class GridParams:
    """How a model of the SAM family is asked for all masks of an image: by a grid of points.

    The values are SAM's own but for `pred_iou_threshold`, which is 0.7 as Gaussian Grouping asks
    for whole scenes (SAM: 0.88): more small and plain things are found, and filtered afterwards.
    """

    points_per_side: int = option(32, "points along one side of the image")
    points_per_batch: int = option(64, "points that the model answers at once; less: less memory")
    pred_iou_threshold: float = option(0.7, "keep masks whose quality the model puts above this")
    stability_threshold: float = option(0.95, "keep masks that other thresholds change less")
    stability_offset: float = option(1.0, "by how much the threshold moves for that")
    box_nms_threshold: float = option(0.7, "of two boxes that overlap more, the better stays")
    crop_layers: int = option(
        0, "also ask in crops: 1: 4 crops, 2: 16 more ...; finds small things"
    )
    crop_nms_threshold: float = option(0.7, "the same between masks of different crops")
    crop_overlap: float = option(512 / 1500, "share of the shorter side by which crops overlap")
    crop_points_downscale: int = option(1, "points a side are divided by this once a crop layer")

    def __post_init__(self) -> None:
        require(
            1 <= self.points_per_side <= SIDE,
            "points_per_side",
            self.points_per_side,
            f"1 to {SIDE}",
        )
        require_at_least(self, 1, "points_per_batch", "crop_points_downscale")
        require(0 <= self.crop_layers <= 4, "crop_layers", self.crop_layers, "0 to 4")
        require_at_least(self, 0, "stability_offset")
        _require_shares(
            self,
            *("pred_iou_threshold", "stability_threshold", "box_nms_threshold"),
            *("crop_nms_threshold", "crop_overlap"),
        )


@dataclass(frozen=True)
class MergeParams:
    """How proposals are filtered, and how they become one id for each pixel.

    Areas are shares of the image, so that they mean the same at every resolution.
    """

    min_area: float = option(1e-4, "smaller masks are dropped: share of the image")
    max_area: float = option(0.95, "larger masks are dropped: share of the image")
    fill_area: float = option(
        1e-4, "smaller holes are filled and smaller islands removed: share of the image"
    )
    duplicate_iou: float = option(0.8, "of two masks with a larger IoU the better stays")
    contained: float = option(0.9, "a mask with this share inside a larger one is a part of it")
    min_visible: float = option(
        0.2, "a mask of which smaller ones leave less than this share gets no id"
    )
    finest_level: int = option(
        -1, "parts of parts below this level get no id; 0: whole things only; -1: all"
    )

    def __post_init__(self) -> None:
        _require_shares(
            self,
            *("min_area", "max_area", "fill_area", "duplicate_iou", "contained", "min_visible"),
        )
        require(self.contained > 0.5, "contained", self.contained, "above 0.5")
        require(self.min_area < self.max_area, "min_area", self.min_area, "below --max_area")
        require_at_least(self, -1, "finest_level")


@dataclass(frozen=True)
class TrackParams:
    """How `--video` follows objects from photograph to photograph."""

    detect_every: int = option(5, "photographs between two searches for new objects")
    known_overlap: float = option(
        0.5, "a mask with this share on objects that are followed already is none of its own"
    )
    forget_after: int = option(30, "an object unseen in so many photographs is given up")
    max_tracks: int = option(200, "objects that are followed at one time")

    def __post_init__(self) -> None:
        require_at_least(self, 1, "detect_every", "forget_after", "max_tracks")
        _require_shares(self, "known_overlap")


@dataclass(frozen=True)
class CheckParams:
    """What is done with the masks of a scene besides looking at them."""

    import_path: str = option(
        "",
        "read this export of an annotation tool first: a file, folder or .zip (see docs/masks.md)",
    )
    convert: str = option(
        "", "sub-folder to write the masks to as training reads them: 16-bit id maps"
    )
    overwrite: bool = option(False, "--convert may replace a folder")
    verbose: bool = option(False, "name every file, and not the first five")

    def __post_init__(self) -> None:
        require(_is_inside(self.convert), "convert", self.convert, "a folder inside the scene")
        require(
            not self.import_path or bool(self.convert),
            "convert",
            "",
            "the folder for the masks of --import_path",
        )


@dataclass(frozen=True)
class PrepareParams:
    """What `prepare_masks.py` does besides making proposals."""

    target: str = option("object_mask", "sub-folder for the masks to train on", short="t")
    splats: str = option(
        "",
        "PLY of Gaussians of the scene that join the masks of all views; empty: the points of its "
        "COLMAP model",
    )
    generate: bool = option(True, "make proposals for photographs that have none")
    associate: bool = option(
        True, "join the masks of all views; without: the proposals are what is checked"
    )
    verbose: bool = option(False, "name every file in the report, and not the first five")

    def __post_init__(self) -> None:
        require(
            bool(self.target) and _is_inside(self.target),
            "target",
            self.target,
            "a folder inside the scene",
        )


def _require_shares(record: object, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        require(0 <= value <= 1, name, value, "between 0 and 1")
