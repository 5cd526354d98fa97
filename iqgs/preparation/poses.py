# SPDX-License-Identifier: Apache-2.0
"""From photographs alone to a scene that can be trained on.

Photographs are looked for in input/ (as convert.py of the 3DGS family has it), in images/, and in
the folder itself. The work is done in sfm/, step by step; what is finished is not done again. From
input/ or the folder itself straight copies become images/ and sparse/0/. Photographs that lie in
images/ already stay as they are, and sparse/0/ keeps their lens: training straightens them on load.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from arguments.conversion import ConversionParams
from iqgs.preparation.solvers import Solver, choose_solver
from iqgs.preparation.watching import rows, watch
from scene.readers.colmap.reading import count_images, models_in
from scene.readers.photo_files import PHOTO_FOLDERS, foreign_files, photographs_in
from utils.errors import DataError, RunError, UserError
from utils.images import image_size, read_image, resize_image, write_image
from utils.json_files import read_json
from utils.progress import tqdm
from utils.storage import atomic_folder, write_text

logger = logging.getLogger(__name__)

WORK = "sfm"  # folder of the database and the models
SEQUENTIAL_OVERLAP = 10  # neighbours that COLMAP compares each photograph with, by default
HALVINGS = (2, 4, 8)  # of --resize


@dataclass(frozen=True)
class Job:
    """One conversion: where its files are."""

    scene: Path
    photographs: Path
    names: tuple[str, ...]  # of the photographs
    straightens: bool  # whether copies without distortion are written

    @property
    def work(self) -> Path:
        """The folder of everything that is only needed on the way."""
        return self.scene / WORK

    @property
    def database(self) -> Path:
        """COLMAP's database."""
        return self.work / "database.db"

    @property
    def models(self) -> Path:
        """The models that it found, numbered."""
        return self.work / "sparse"


def find_job(scene: Path) -> Job:
    """Where the photographs of a folder are. DataError where there are none."""
    if not scene.is_dir():
        raise DataError(f"{scene}: no such folder; -s must name the folder of the photographs")
    places = [*PHOTO_FOLDERS, "."]
    progress = scene / WORK / "progress.json"
    if progress.is_file():  # its images/ may be copies that an earlier conversion made
        before = read_json(progress).get("settings", {})
        places.insert(0, str(before.get("folder", "input")) if isinstance(before, dict) else ".")
    for place in places:
        folder = scene / place
        names = photographs_in(folder, below=place != ".") if folder.is_dir() else []
        if names:
            return Job(scene, folder, tuple(names), place != "images")
    raise DataError(
        f"{scene}: no photographs in input/, in images/ or in the folder itself"
        f"{foreign_files(scene)}"
    )


def convert(params: ConversionParams) -> Path:
    """Find the poses of a folder's photographs; returns the scene's folder.

    Raises DataError or UserError for what cannot be done, RunError where COLMAP fails.
    """
    job = find_job(Path(params.source_path))
    _check_targets(job, params)
    solver = choose_solver(params, job.work / "colmap.log")
    done = _progress(job, params)
    cameras = params.cameras if params.cameras != "auto" else shared_calibration(job)
    logger.info("%d photographs in %s, poses by %s", len(job.names), job.photographs, solver.name)
    count = len(job.names)
    pairs = count * (count - 1) // 2
    if params.pairing == "sequential":
        pairs = min(pairs, count * SEQUENTIAL_OVERLAP)
    steps: dict[str, tuple[str, Callable[[], None], Callable[[], int], int]] = {
        "features": (
            "1/4 key points",
            lambda: solver.features(job.database, _source(job), cameras),
            lambda: rows(job.database, "keypoints"),
            count,
        ),
        "matches": (
            "2/4 pairs",
            lambda: solver.matches(job.database),
            lambda: rows(job.database, "two_view_geometries"),
            pairs,
        ),
    }
    for name, (title, work, counted, total) in steps.items():
        if name not in done:
            watch(title, work, solver.cancel, counted, total, params.quiet)
            _note(job, params, done, name)
    if "mapping" not in done:
        _map(job, solver, params)
        _note(job, params, done, "mapping")
    _finish(job, solver, params)
    return job.scene


def _check_targets(job: Job, params: ConversionParams) -> None:
    """Refuse to write over what is not ours: an earlier conversion's files need --overwrite."""
    wanted = ["sparse"] + ["images"] * job.straightens
    there = [name for name in wanted if (job.scene / name).exists()]
    if there and not params.overwrite:
        raise UserError(
            f"{job.scene}: {' and '.join(f'{name}/' for name in there)} already there; train on "
            "this folder, or pass --overwrite to find the poses anew"
        )
    if len(job.names) < 2:
        raise DataError(f"{job.photographs}: one photograph has no pose; at least two are needed")
    for name in job.names:
        image_size(job.photographs / name)  # a damaged file is named before the work begins


def _settings(job: Job, params: ConversionParams) -> dict[str, object]:
    """What the results of the steps depend on."""
    return {
        "camera_model": params.camera_model,
        "cameras": params.cameras,
        "pairing": params.pairing,
        "folder": job.photographs.relative_to(job.scene).as_posix(),
        "photographs": list(job.names),
    }


def _progress(job: Job, params: ConversionParams) -> list[str]:
    """The steps of an earlier start that need not be done again."""
    path = job.work / "progress.json"
    if path.is_file() and not params.overwrite:
        record = read_json(path)
        if record.get("settings") == _settings(job, params):
            done = [str(name) for name in record.get("done", [])]
            logger.info("going on after: %s", ", ".join(done) or "an interrupted first step")
            return done
        logger.info("other photographs or settings than those in %s: starting anew", job.work)
    shutil.rmtree(job.work, ignore_errors=True)
    job.work.mkdir(parents=True)
    _note(job, params, [], "")
    return []


def _note(job: Job, params: ConversionParams, done: list[str], step: str) -> None:
    done += [step] if step else []
    record = {"settings": _settings(job, params), "done": done}
    write_text(job.work / "progress.json", json.dumps(record, indent=1) + "\n")


def _source(job: Job) -> Path:
    """The folder that COLMAP reads: it takes every picture below it, so loose ones are linked."""
    if job.photographs != job.scene:
        return job.photographs
    folder = job.work / "photographs"
    folder.mkdir(exist_ok=True)
    for name in job.names:
        if not (folder / name).exists():
            (folder / name).symlink_to((job.scene / name).resolve())
    return folder


def shared_calibration(job: Job) -> str:
    """`single` if all photographs have one size, camera and focal length; else COLMAP decides."""
    kinds = {_lens_of(job.photographs / name) for name in job.names}
    return "single" if len(kinds) == 1 else "auto"


def _lens_of(path: Path) -> tuple[object, ...]:
    with Image.open(path) as image:
        exif = Image.Exif() if image.format == "PNG" else image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        focal = details.get(ExifTags.Base.FocalLength)
        return image.size, exif.get(ExifTags.Base.Model), None if focal is None else float(focal)


def _map(job: Job, solver: Solver, params: ConversionParams) -> None:
    """Poses and points; what an interrupted attempt left is removed first."""
    shutil.rmtree(job.models, ignore_errors=True)
    posed = [0]

    def count() -> None:
        posed[0] += 1

    watch(
        "3/4 poses",
        lambda: solver.mapping(job.database, _source(job), job.models, count),
        solver.cancel,
        lambda: posed[0],
        len(job.names),
        params.quiet,
    )
    if not models_in(job.models):
        raise RunError(
            f"{job.photographs}: no two photographs fit together; they need more overlap, texture "
            "or sharpness (a video: --pairing sequential)"
        )


def _finish(job: Job, solver: Solver, params: ConversionParams) -> None:
    """Put the largest model, and the straight photographs if there are any, in their places."""
    found = models_in(job.models)
    largest = max(found, key=count_images)
    count = count_images(largest)
    if job.straightens:
        output = job.work / "straight"
        shutil.rmtree(output, ignore_errors=True)
        watch(
            "4/4 straightening",
            lambda: solver.undistort(largest, _source(job), output),
            solver.cancel,
            lambda: len(photographs_in(output / "images")) if output.is_dir() else 0,
            count,
            params.quiet,
        )
        model = next(iter(models_in(output / "sparse")))
        _replace(output / "images", job.scene / "images")
    else:
        model = largest
    with atomic_folder(job.scene / "sparse") as folder:
        (folder / "0").mkdir()
        for path in model.iterdir():
            if path.is_file():
                shutil.copy2(path, folder / "0" / path.name)
    if params.resize:
        _write_smaller(job.scene, params.quiet)
    logger.info("%d of %d photographs have a pose: %s", count, len(job.names), job.scene / "sparse")
    if len(found) > 1:
        logger.info(
            "COLMAP found %d separate parts, this is the largest; photographs between them, or "
            "another --camera_model, may join more",
            len(found),
        )


def _replace(folder: Path, target: Path) -> None:
    with atomic_folder(target) as fresh:
        for path in folder.iterdir():
            path.rename(fresh / path.name)


def _write_smaller(scene: Path, quiet: bool) -> None:
    """images_2, images_4, images_8: area means of the photographs."""
    names = photographs_in(scene / "images")
    for divisor in HALVINGS:
        with atomic_folder(scene / f"images_{divisor}") as folder:
            for name in tqdm(names, desc=f"images_{divisor}", disable=quiet):
                image = read_image(scene / "images" / name)[:3]
                width, height = image.shape[2] // divisor, image.shape[1] // divisor
                write_image(folder / name, resize_image(image, max(width, 1), max(height, 1)))
