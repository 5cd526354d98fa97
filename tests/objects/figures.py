# SPDX-License-Identifier: Apache-2.0
"""Objects made of discs by hand: balls, rings and walls, with cameras round them."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from gaussian_renderer import Renderer
from iqgs.methods.hard_labels import segment_by_labels
from iqgs.methods.protocol import SplatLabels
from iqgs.objects.labelled import LabelledSplats
from scene.cameras import Camera
from scene.gaussian_model import GaussianModel
from utils.geometry import look_at
from utils.spherical_harmonics import rgb_to_sh_dc

RENDERER = Renderer(torch.zeros(3), "auto", 0.0)
BALL, RING, WALL = 1, 2, 7


def discs(
    means: np.ndarray, normals: np.ndarray, size: float, color: tuple[float, float, float]
) -> GaussianModel:
    """Nearly opaque discs at means [N, 3] across normals [N, 3], with harmonics of degree 1."""
    n = len(means)
    turns = [Rotation.align_vectors([normal], [[0.0, 0.0, 1.0]])[0] for normal in normals]
    x, y, z, w = np.array([turn.as_quat() for turn in turns]).T
    rng = np.random.default_rng(n)
    shade = 1 + 0.2 * rng.standard_normal((n, 1))
    return GaussianModel(
        {
            "means": torch.tensor(means, dtype=torch.float32),
            "log_scales": torch.full((n, 2), math.log(size)),
            "quaternions": torch.tensor(np.stack([w, x, y, z], 1), dtype=torch.float32),
            "opacity_logits": torch.full((n, 1), 4.0),
            "sh_dc": rgb_to_sh_dc(torch.tensor(color * shade, dtype=torch.float32))[:, None],
            "sh_rest": 0.1 * torch.tensor(rng.standard_normal((n, 3, 3)), dtype=torch.float32),
            "instance": torch.zeros(n, 0),
        },
        active_sh_degree=1,
    )


def ball(center: tuple[float, float, float], radius: float, count: int = 300) -> GaussianModel:
    """A red ball."""
    k = np.arange(count)
    z = 1 - (2 * k + 1) / count
    angle = k * math.pi * (3 - math.sqrt(5))
    out = np.stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z], 1)
    size = radius * math.sqrt(4 * math.pi / count) / 1.6
    return discs(np.array(center) + radius * out, out, size, (0.8, 0.2, 0.1))


def ring(radius: float, thickness: float, around: int = 90, across: int = 10) -> GaussianModel:
    """A blue torus about the z axis, at the origin."""
    u, v = np.meshgrid(np.arange(around) / around, np.arange(across) / across, indexing="ij")
    u, v = 2 * math.pi * u.ravel(), 2 * math.pi * v.ravel()
    out = np.stack([np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v)], 1)
    middle = radius * np.stack([np.cos(u), np.sin(u), np.zeros_like(u)], 1)
    return discs(middle + thickness * out, out, 0.5 * thickness, (0.1, 0.2, 0.9))


def wall(y: float, half: float, count: int = 24) -> GaussianModel:
    """A grey square wall across the y axis."""
    side = (np.arange(count) + 0.5) / count * 2 * half - half
    x, z = (g.ravel() for g in np.meshgrid(side, side))
    means = np.stack([x, np.full_like(x, y), z], 1)
    return discs(means, np.tile([0.0, 1.0, 0.0], (len(means), 1)), 1.4 * half / count, (0.5,) * 3)


def labelled(
    parts: dict[int, GaussianModel], names: dict[int, str] | None = None
) -> LabelledSplats:
    """Objects by number, one after the other."""
    values = {
        name: torch.cat([part.params[name].detach() for part in parts.values()])
        for name in next(iter(parts.values())).params
    }
    labels = torch.cat([torch.full((len(part),), n) for n, part in parts.items()])
    return LabelledSplats(
        GaussianModel(values, 1), labels, torch.ones(len(labels)), names=names or {}
    )


def ball_in_ring() -> LabelledSplats:
    """A ball in the middle of a ring, before a wall."""
    parts = {BALL: ball((0.0, 0.0, 0.0), 0.3), RING: ring(0.8, 0.12), WALL: wall(1.5, 1.4)}
    return labelled(parts, {BALL: "ball", RING: "ring"})


def camera(
    position: tuple[float, float, float],
    target: tuple[float, float, float] = (0.0, 0.0, 0.0),
    size: int = 64,
) -> Camera:
    """A square camera that looks from one point at another."""
    pose = look_at(np.array(position), np.array(target), np.array([0.0, 0.0, 1.0]))
    return Camera(torch.tensor(pose), size, size, size / 2, size / 2, size, size, "view.png", 0)


def orbit(count: int = 8, radius: float = 2.6, height: float = 1.3) -> list[Camera]:
    """Cameras on the open side of `ball_in_ring`."""
    angles = np.linspace(-math.pi * 0.9, -math.pi * 0.1, count)
    return [camera((radius * math.cos(a), radius * math.sin(a), height)) for a in angles]


def label_map(objects: LabelledSplats, view: Camera) -> Tensor:
    """What each pixel [H, W] shows."""
    labels = SplatLabels(objects.labels, torch.ones(len(objects)), "global")
    return segment_by_labels(RENDERER.lens(view, objects.splats), labels, False).label_map


def picture(objects: LabelledSplats, view: Camera) -> Tensor:
    """Colours [3, H, W] on black."""
    return RENDERER.lens(view, objects.splats).render(with_surface=False).color
