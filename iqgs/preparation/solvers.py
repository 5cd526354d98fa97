# SPDX-License-Identifier: Apache-2.0
"""Structure from motion by COLMAP: through its Python package, or through its program.

Both write the same files; a step that was interrupted goes on where it stopped, because COLMAP
skips what its database already holds.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from arguments.conversion import ConversionParams
from utils.errors import RunError, UserError

logger = logging.getLogger(__name__)

_FAULT = re.compile(r"\b(error|failed|fatal|cannot|invalid)\b(?!.*stack trace)", re.IGNORECASE)
RANSAC_SEED = 0  # with several threads COLMAP's results differ from run to run all the same
_MODES = {"single": "SINGLE", "per_folder": "PER_FOLDER", "per_image": "PER_IMAGE"}
_MODE_OPTIONS = {
    "single": {"ImageReader.single_camera": "1"},
    "per_folder": {"ImageReader.single_camera_per_folder": "1"},
    "per_image": {"ImageReader.single_camera_per_image": "1"},
}


class Solver(Protocol):
    """The steps from photographs to an undistorted model; each raises RunError if it fails."""

    name: str

    def features(self, database: Path, photographs: Path, cameras: str) -> None:
        """Key points of every photograph."""

    def matches(self, database: Path) -> None:
        """Which key points of two photographs are the same place."""

    def mapping(
        self, database: Path, photographs: Path, models: Path, posed: Callable[[], None]
    ) -> None:
        """Poses and points, into numbered folders in `models`; calls `posed` once an image."""

    def undistort(self, model: Path, photographs: Path, output: Path) -> None:
        """Straight photographs in output/images, their model in output/sparse."""

    def cancel(self) -> None:
        """Ask the running step to stop."""


def choose_solver(params: ConversionParams, log: Path) -> Solver:
    """pycolmap where it is installed, else the program. UserError naming both where neither is."""
    program = params.colmap_executable or shutil.which("colmap") or ""
    has_package = importlib.util.find_spec("pycolmap") is not None
    if params.solver == "pycolmap" and not has_package:
        raise UserError("--solver pycolmap: it is not installed; pip install pycolmap")
    if params.colmap_executable and shutil.which(program) is None:
        raise UserError(f"--colmap_executable {program}: no such program")
    if params.solver == "colmap" and not program:
        raise UserError("--solver colmap: there is no colmap on the PATH; --colmap_executable PATH")
    if params.solver == "colmap" or params.colmap_executable or (program and not has_package):
        return ColmapProgram(params, program, log)
    if has_package:
        return PyColmap(params)
    raise UserError(
        "finding poses needs COLMAP: pip install pycolmap (or pip install '.[sfm]'), or a colmap "
        "on the PATH"
    )


class PyColmap:
    """COLMAP's own Python package, in this process."""

    name = "pycolmap"

    def __init__(self, params: ConversionParams) -> None:
        import pycolmap

        self._module: Any = pycolmap
        self._params = params
        self._token = pycolmap.CancellationToken()
        self._device = pycolmap.Device.cpu if params.no_gpu else pycolmap.Device.auto
        pycolmap.logging.minloglevel = int(pycolmap.logging.ERROR)
        pycolmap.set_random_seed(RANSAC_SEED)

    def _threaded(self, options: Any) -> Any:
        options.num_threads = self._params.threads or -1
        return options

    def _run(self, step: Callable[..., object], **arguments: Any) -> None:
        try:
            step(**arguments, cancellation_token=self._token)
        except (RuntimeError, ValueError, OSError) as error:
            raise RunError(f"pycolmap: {_first_line(str(error))}") from error

    def features(self, database: Path, photographs: Path, cameras: str) -> None:
        reader = self._module.ImageReaderOptions()
        reader.camera_model = self._params.camera_model
        mode = _MODES.get(cameras, "AUTO")
        self._run(
            self._module.extract_features,
            database_path=database,
            image_path=photographs,
            camera_mode=getattr(self._module.CameraMode, mode),
            reader_options=reader,
            extraction_options=self._threaded(self._module.FeatureExtractionOptions()),
            device=self._device,
        )

    def matches(self, database: Path) -> None:
        step = getattr(self._module, f"match_{self._params.pairing}")
        options = self._threaded(self._module.FeatureMatchingOptions())
        self._run(step, database_path=database, matching_options=options, device=self._device)

    def mapping(
        self, database: Path, photographs: Path, models: Path, posed: Callable[[], None]
    ) -> None:
        models.mkdir(parents=True, exist_ok=True)
        self._run(
            self._module.incremental_mapping,
            database_path=database,
            image_path=photographs,
            output_path=models,
            options=self._threaded(self._module.IncrementalPipelineOptions()),
            next_image_callback=posed,
        )

    def undistort(self, model: Path, photographs: Path, output: Path) -> None:
        self._run(
            self._module.undistort_images,
            output_path=output,
            input_path=model,
            image_path=photographs,
            num_threads=self._params.threads or -1,
        )

    def cancel(self) -> None:
        self._token.cancel()


class ColmapProgram:
    """A `colmap` executable; what it says goes into a log file."""

    name = "colmap"

    def __init__(self, params: ConversionParams, program: str, log: Path) -> None:
        self._params, self._program, self._log = params, program, log
        self._process: subprocess.Popen[str] | None = None

    def _run(
        self,
        command: str,
        options: Mapping[str, object],
        seen: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        words = [self._program, command]
        for name, value in {**options, **self._machine(command)}.items():
            words += [f"--{name}", str(value)]
        with open(self._log, "a", encoding="utf-8") as log:
            log.write(" ".join(words) + "\n")
            self._process = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # Its window system is not needed, and stops it where there is no screen.
                env={"QT_QPA_PLATFORM": "offscreen", **os.environ},
            )
            assert self._process.stdout is not None
            fault = ""
            for line in self._process.stdout:
                log.write(line)
                seen(line)
                if _FAULT.search(line) or not fault:
                    fault = line
            code = self._process.wait()
        if code:
            hint = "; try --no_gpu" if "opengl" in fault.lower() or "gpu" in fault.lower() else ""
            raise RunError(
                f"{self._program} {command} stopped with exit code {code}: {_first_line(fault)}"
                f"{hint} (everything it said: {self._log})"
            )

    def _machine(self, command: str) -> dict[str, object]:
        """Options about threads and GPU, under the names that this version has for them."""
        wanted: dict[str, object] = {}
        if self._params.no_gpu:
            wanted["use_gpu"] = 0
        if self._params.threads:
            wanted["num_threads"] = self._params.threads
        if not wanted:
            return {}
        groups = {
            "feature_extractor": ("FeatureExtraction", "SiftExtraction"),
            "exhaustive_matcher": ("FeatureMatching", "SiftMatching"),
            "sequential_matcher": ("FeatureMatching", "SiftMatching"),
            "mapper": ("Mapper",),
        }.get(command, ())
        said = subprocess.run([self._program, command, "--help"], capture_output=True, text=True)
        known = said.stdout + said.stderr
        return {
            f"{group}.{name}": value
            for name, value in wanted.items()
            for group in groups
            if f"--{group}.{name}" in known
        }

    def features(self, database: Path, photographs: Path, cameras: str) -> None:
        options = {
            "database_path": database,
            "image_path": photographs,
            "ImageReader.camera_model": self._params.camera_model,
            **_MODE_OPTIONS.get(cameras, {}),
        }
        self._run("feature_extractor", options)

    def matches(self, database: Path) -> None:
        self._run(f"{self._params.pairing}_matcher", {"database_path": database})

    def mapping(
        self, database: Path, photographs: Path, models: Path, posed: Callable[[], None]
    ) -> None:
        models.mkdir(parents=True, exist_ok=True)
        options = {"database_path": database, "image_path": photographs, "output_path": models}

        def seen(line: str) -> None:
            if "Registering image" in line:
                posed()

        try:
            self._run("mapper", options, seen)
        except RunError as error:
            if "failed to create" not in str(error):  # no model: the caller says what that means
                raise

    def undistort(self, model: Path, photographs: Path, output: Path) -> None:
        options = {"image_path": photographs, "input_path": model, "output_path": output}
        self._run("image_undistorter", options)

    def cancel(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0][:300] or "it said nothing"
