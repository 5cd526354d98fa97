# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: colour, ids, depth, normals, features, panels and videos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from arguments.rendering import RenderParams
from gaussian_renderer import RenderOutput, render
from iqgs.engine.rendering_files import (
    write_id_masks,
    write_id_picture,
    write_picture,
    write_video,
)
from iqgs.engine.rendering_path import path_cameras
from iqgs.types import SegmentationMethod
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from scene.masks import IdTable
from scene.view import View
from utils.colors import (
    FeaturePalette,
    colorize_depth,
    colorize_features,
    colorize_ids,
    colorize_normals,
    fit_feature_palette,
)
from utils.images import LARGEST_PNG_ID
from utils.storage import write_text

SURFACE_ALPHA = 0.5  # below it a pixel shows more background than surface: no depth is written
PALETTE_CAMERAS = 8  # views that the range of depths is taken from
PALETTE_SPLATS = 20_000  # splats that the palette of features is fitted to

Bytes = NDArray[np.uint8]


class LoadedRun(Protocol):
    """What rendering needs of a run (`iqgs.engine.checkpoint.Run` has it)."""

    config: Any
    scene: Any
    gaussians: GaussianModel
    method: SegmentationMethod | None
    iteration: int
    id_table: IdTable | None
    background: Tensor
    model_path: Path


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
    ids: NDArray[np.integer] | None  # numbers of the mask files, in the type of `original_ids`
    objects: Bytes | None
    features: Bytes | None


def to_bytes(image: Tensor) -> Bytes:
    """Image [3, H, W] in 0..1 -> [H, W, 3] uint8, rounded."""
    scaled = (image.detach().clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    return np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy())


def fit_palette(run: LoadedRun, cameras: Sequence[Camera]) -> Palette:
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


def original_ids(run: LoadedRun, label_map: Tensor) -> NDArray[np.integer]:
    """A method's label map in the numbers of the mask files; uint16 where 16 bits hold them all.

    Under Hungarian matching queries own no id of the files: their own numbers are kept.
    """
    labels = label_map.cpu().numpy().astype(np.int32)
    table = run.id_table
    if table is None or run.config.segmentation.matching != "id":
        return labels.astype(np.uint16)
    wide = max(table.originals, default=0) > LARGEST_PNG_ID
    return table.to_original(labels).astype(np.int32 if wide else np.uint16)


def picture_view(run: LoadedRun, camera: Camera, palette: Palette) -> Pictures:
    """Render and segment one view."""
    with torch.no_grad():
        rendered: RenderOutput = render(
            camera,
            run.gaussians,
            run.background,
            with_instance=run.method is not None,
            backend=run.config.pipeline.backend,
        )
        surface = rendered.alpha[0] > SURFACE_ALPHA
        depth = torch.where(surface, rendered.depth[0], torch.zeros_like(rendered.depth[0]))
        ids = None
        if run.method is not None:
            found = run.method.segment(rendered.instance, panoptic=True, alpha=rendered.alpha)
            ids = original_ids(run, found.label_map)
    depths = depth.cpu().numpy().astype(np.float32)
    features = None
    if palette.features is not None:
        features = colorize_features(rendered.instance.cpu().numpy(), palette.features)
    return Pictures(
        color=to_bytes(rendered.color),
        depth=depths,
        depth_color=colorize_depth(depths, *palette.depth),
        normals=colorize_normals(rendered.normal.cpu().numpy()),
        ids=ids,
        objects=None if ids is None else colorize_ids(ids),
        features=features,
    )


def truth_colors(run: LoadedRun, view: View) -> Bytes | None:
    """The view's own masks in the colours of their numbers; None where it has none."""
    masks = view.masks
    if masks is None or run.id_table is None:
        return None
    return colorize_ids(run.id_table.to_original(np.maximum(masks.label_map, 0)))


def panel(pictures: Pictures, photo: Bytes, truth: Bytes | None) -> Bytes:
    """Side by side: photo, render, depth, normals; below: masks, objects, features, overlay."""
    rows = [[photo, pictures.color, pictures.depth_color, pictures.normals]]
    if pictures.objects is not None and pictures.features is not None:
        overlay = (pictures.color // 2 + pictures.objects // 2).astype(np.uint8)
        masks = np.zeros_like(photo) if truth is None else truth
        rows.append([masks, pictures.objects, pictures.features, overlay])
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def render_split(run: LoadedRun, split: str, params: RenderParams, palette: Palette) -> list[Path]:
    """Write every picture of a split's views and a video of its panels.

    Returns the folder; nothing for a split without views.
    """
    views: Sequence[View] = getattr(run.scene, split)
    if not views:
        return []
    folder = Path(run.model_path) / split / f"ours_{run.iteration}"
    names = {f"{index:05d}": view.name for index, view in enumerate(views)}
    write_text(folder / "views.json", json.dumps(names, indent=1) + "\n")
    panels = _written_panels(run, views, folder, params, palette)
    write_video(folder / "concat" / "result.mp4", panels, params.fps)
    return [folder]


def _written_panels(
    run: LoadedRun, views: Sequence[View], folder: Path, params: RenderParams, palette: Palette
) -> Iterator[Bytes]:
    """Write the pictures of each view, and give its panel to the video."""
    title = f"Rendering {folder.parent.name}"
    for index, view in enumerate(tqdm(views, desc=title, disable=params.quiet)):
        pictures = picture_view(run, view.camera, palette)
        photo, truth = to_bytes(view.image), truth_colors(run, view)
        whole = panel(pictures, photo, truth)
        name = f"{index:05d}.png"
        write_picture(folder / "gt" / name, photo)
        write_picture(folder / "concat" / name, whole)
        if truth is not None:
            write_picture(folder / "gt_objects_color" / name, truth)
        write_pictures(folder, name, pictures)
        if params.masks and pictures.ids is not None:
            write_id_masks(folder / "masks" / Path(view.name).with_suffix(""), pictures.ids)
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


def render_path(run: LoadedRun, params: RenderParams, palette: Palette) -> Path:
    """Write `traj/ours_N/result.mp4`: colour beside objects along an ellipse round the scene."""
    views = run.scene.train or run.scene.test
    cameras = path_cameras([view.camera for view in views], params.path_frames)

    def frames() -> Iterator[Bytes]:
        for camera in tqdm(cameras, desc="Rendering path", disable=params.quiet):
            pictures = picture_view(run, camera, palette)
            beside = pictures.depth_color if pictures.objects is None else pictures.objects
            yield np.concatenate([pictures.color, beside], axis=1)

    path = Path(run.model_path) / "traj" / f"ours_{run.iteration}" / "result.mp4"
    write_video(path, frames(), params.fps)
    return path


def render_run(run: LoadedRun, params: RenderParams) -> list[Path]:
    """Write all that `params` asks for; returns the folders and videos that were written."""
    views = (*run.scene.train, *run.scene.test)
    palette = fit_palette(run, [view.camera for view in views])
    paths = [path for split in params.splits for path in render_split(run, split, params, palette)]
    if params.render_path:
        paths.append(render_path(run, params, palette))
    return paths
