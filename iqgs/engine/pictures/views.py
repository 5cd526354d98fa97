# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: colour, ids, depth, normals, features, panels and videos."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arguments.rendering import RenderParams
from iqgs.engine.objects.meshing import render_mesh
from iqgs.engine.objects.shown import has_edits, shown_run, unedited_objects
from iqgs.engine.pictures.files import (
    write_id_masks,
    write_id_picture,
    write_picture,
    write_video,
)
from iqgs.engine.run import Run
from iqgs.objects.labelled import LabelledSplats
from scene.camera_path import path_cameras
from scene.cameras import Camera
from scene.exposure import Exposures
from scene.view import View
from utils.colors import (
    FeaturePalette,
    colorize_depth,
    colorize_features,
    colorize_ids,
    colorize_normals,
    fit_feature_palette,
)
from utils.errors import UserError
from utils.images import LARGEST_PNG_ID
from utils.progress import tqdm
from utils.storage import write_text

SURFACE_ALPHA = 0.5  # below it a pixel shows more background than surface: no depth is written
PALETTE_CAMERAS = 8  # views that the range of depths is taken from
NAMES_FILE = "names.json"  # what the numbers of objects_id and masks are called
PALETTE_SPLATS = 20_000  # splats that the palette of features is fitted to

logger = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Palette:
    """What must not change from view to view."""

    depth: tuple[float, float]  # nearest and farthest depth in colour
    features: FeaturePalette | None


@dataclass(frozen=True)
class Pictures:
    """The pictures of one view, [H, W] or [H, W, 3]; None where a run has no instances."""

    color: Bytes
    depth: NDArray[np.float32]  # scene units, 0 = no surface
    depth_color: Bytes
    normals: Bytes
    ids: NDArray[np.integer] | None  # numbers of the mask files, see `picture_ids`
    objects: Bytes | None
    features: Bytes | None


def to_bytes(image: Tensor) -> Bytes:
    """Image [3, H, W] in 0..1 -> [H, W, 3] uint8, rounded."""
    scaled = (image.detach().clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    return np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy())


def fit_palette(run: Run, cameras: Sequence[Camera]) -> Palette:
    """One range of depths and one basis of features for every view of a run."""
    gaussians = run.gaussians
    solid = gaussians.opacities.detach()[:, 0] > SURFACE_ALPHA
    means = gaussians.means.detach()[solid]
    depths = []
    for camera in cameras[:: max(1, len(cameras) // PALETTE_CAMERAS)]:
        pixels, depth = camera.project(means)
        size = torch.tensor([camera.width, camera.height], device=pixels.device)
        seen = (depth > camera.near) & ((pixels >= 0) & (pixels < size)).all(dim=1)
        depths.append(depth[seen].cpu().numpy())
    seen_depths = np.concatenate(depths) if depths else np.zeros(0)
    near, far = np.percentile(seen_depths, [1, 99]) if len(seen_depths) else (0.0, 0.0)
    features = None
    instance = gaussians.instance.detach()
    if run.method is not None and instance.numel():
        rows = instance[solid] if bool(solid.any()) else instance
        step = max(1, len(rows) // PALETTE_SPLATS)
        features = fit_feature_palette(rows[::step].cpu().numpy())
    return Palette((float(near), float(max(far, near + 1e-3))), features)


def picture_ids(run: Run, ids: NDArray[np.int32]) -> NDArray[np.integer]:
    """Ids as uint16, where 16 bits hold all of the run's; decided once for all of its pictures."""
    largest = 0 if run.ids is None else max(run.ids.originals, default=0)
    return ids if largest > LARGEST_PNG_ID else ids.astype(np.uint16)


def picture_view(
    run: Run, camera: Camera, palette: Palette, exposures: Exposures | None = None
) -> Pictures:
    """Render and segment one view; in the colours of its own camera if `exposures` has them."""
    lens = run.lens(camera)
    rendered = lens.image
    surface = rendered.alpha[0] > SURFACE_ALPHA
    depth = torch.where(surface, rendered.depth[0], torch.zeros_like(rendered.depth[0]))
    ids = None
    if run.method is not None:
        found = run.method.segment(lens)
        ids = picture_ids(run, run.file_ids(found.label_map, found.ids))
    color = rendered.color
    if exposures is not None and camera.name in exposures.numbers:
        color = exposures.apply(camera.name, color)
    depths = depth.cpu().numpy().astype(np.float32)
    features = None
    if palette.features is not None:
        features = colorize_features(lens.features.cpu().numpy(), palette.features)
    return Pictures(
        color=to_bytes(color),
        depth=depths,
        depth_color=colorize_depth(depths, *palette.depth),
        normals=colorize_normals(rendered.normal.cpu().numpy()),
        ids=ids,
        objects=None if ids is None else colorize_ids(ids),
        features=features,
    )


def truth_colors(run: Run, view: View) -> Bytes | None:
    """The view's own masks in the colours of their numbers; None where it has none."""
    masks, table = view.masks, run.scene.id_table  # those of a repair may be others
    if masks is None or table is None:
        return None
    return colorize_ids(table.to_original(np.maximum(masks.label_map, 0)))


def panel(pictures: Pictures, photo: Bytes | None, truth: Bytes | None) -> Bytes:
    """Side by side: photo, render, depth, normals; below: masks, objects, features, overlay.

    What is not there is black.
    """
    nothing = np.zeros_like(pictures.color)
    photo, truth = (nothing if part is None else part for part in (photo, truth))
    rows = [[photo, pictures.color, pictures.depth_color, pictures.normals]]
    if pictures.objects is not None:
        overlay = (pictures.color // 2 + pictures.objects // 2).astype(np.uint8)
        features = nothing if pictures.features is None else pictures.features
        rows.append([truth, pictures.objects, features, overlay])
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def file_names(names: Sequence[str]) -> dict[str, str]:
    """What the files of each view are called, without suffix: as its photograph.

    Where two photographs differ in their suffix only, the suffix stays.
    """
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    count = Counter(stems)
    return {n: stem if count[stem] == 1 else n for n, stem in zip(names, stems, strict=True)}


def render_split(run: Run, split: str, params: RenderParams, palette: Palette) -> list[Path]:
    """Write every picture of a split's views and a video of its panels.

    Returns the folder; nothing for a split without views.
    """
    cameras: Sequence[Camera] = getattr(run.cameras, split)
    if not cameras:
        return []
    folder = run.folder / split / run.output_name
    if run.method is not None and run.ids is not None and run.method.ids == "global":
        known = {str(number): run.ids.names.get(number, "") for number in run.ids.originals}
        write_text(folder / NAMES_FILE, json.dumps(known, indent=1) + "\n")
    panels = _written_panels(run, cameras, folder, params, palette)
    write_video(folder / "concat" / "result.mp4", panels, params.fps)
    return [folder]


def _written_panels(
    run: Run, cameras: Sequence[Camera], folder: Path, params: RenderParams, palette: Palette
) -> Iterator[Bytes]:
    """Write the pictures of each view, and give its panel to the video."""
    views = {} if not run.has_scene else {view.name: view for view in run.views()}
    names = file_names([camera.name for camera in cameras])
    title = f"Rendering {folder.parent.name}"
    for camera in tqdm(cameras, desc=title, disable=params.quiet):
        name = names[camera.name] + ".png"
        pictures = picture_view(run, camera, palette, run.exposures if params.exposure else None)
        view = views.get(camera.name)
        photo, truth = None, None
        if view is not None:
            photo, truth = to_bytes(view.image), truth_colors(run, view)
            view.forget()
        whole = panel(pictures, photo, truth)
        write_picture(folder / "concat" / name, whole)
        if photo is not None:
            write_picture(folder / "gt" / name, photo)
        if truth is not None:
            write_picture(folder / "gt_objects_color" / name, truth)
        write_pictures(folder, name, pictures)
        if params.masks and pictures.ids is not None:
            write_id_masks(folder / "masks" / names[camera.name], pictures.ids)
        yield whole


def write_pictures(folder: Path, name: str, pictures: Pictures) -> None:
    """Write one view's pictures, each kind in its own sub-folder of `folder`."""
    write_picture(folder / "renders" / name, pictures.color)
    write_picture(folder / "depth" / Path(name).with_suffix(".tiff"), pictures.depth, "TIFF")
    write_picture(folder / "depth_color" / name, pictures.depth_color)
    write_picture(folder / "normals" / name, pictures.normals)
    if pictures.ids is not None:
        write_id_picture(folder / "objects_id" / name, pictures.ids)
    if pictures.objects is not None:
        write_picture(folder / "objects_pred" / name, pictures.objects)
    if pictures.features is not None:
        write_picture(folder / "objects_feature16" / name, pictures.features)


def render_path(run: Run, params: RenderParams, palette: Palette) -> Path:
    """Write `traj/ours_N/result.mp4`: colour beside objects along an ellipse round the scene."""
    cameras = path_cameras(run.cameras.train or run.cameras.test, params.path_frames)

    def frames() -> Iterator[Bytes]:
        for camera in tqdm(cameras, desc="Rendering path", disable=params.quiet):
            pictures = picture_view(run, camera, palette)
            beside = pictures.depth_color if pictures.objects is None else pictures.objects
            yield np.concatenate([pictures.color, beside], axis=1)

    path = run.folder / "traj" / run.output_name / "result.mp4"
    write_video(path, frames(), params.fps)
    return path


def render_run(run: Run, params: RenderParams) -> list[Path]:
    """Write all that `params` asks for; returns the folders and videos that were written."""
    if params.exposure and run.exposures is None:
        raise UserError(
            f"--exposure: {run.folder} was trained without it, so its views have no exposures; "
            "leave it out"
        )
    if params.masks and run.method is None:
        logger.warning("--masks: this run was trained without masks, so it has none to write")
    if params.splits and not run.has_scene:
        logger.warning(
            "%s: no such folder, so the photographs are left out of the pictures; "
            "say where the scene is now with -s",
            run.config.model.source_path,
        )
    shown, objects = _wanted_run(run, params)
    palette = fit_palette(shown, (*run.cameras.train, *run.cameras.test))
    paths = [p for split in params.splits for p in render_split(shown, split, params, palette)]
    if params.render_path:
        paths.append(render_path(shown, params, palette))
    if params.mesh:
        paths += render_mesh(shown, unedited_objects(run) if objects is None else objects, params)
    return paths


def _wanted_run(run: Run, params: RenderParams) -> tuple[Run, LabelledSplats | None]:
    """The run in the state and at the level that are asked for; a notice says which of two."""
    edits = has_edits(run)
    edited = params.state != "trained"
    if edits and params.state == "auto":
        logger.info("%d edits of the run are shown; --state trained leaves them out", edits)
    return shown_run(run, edited, params)
