# SPDX-License-Identifier: Apache-2.0
"""The Gaussians: discs or ellipsoids in space with colour and a learned instance attribute.

Raw parameters are unconstrained; the properties apply the activations. N splats, K SH coefficients,
D_obj instance channels. Rows are edited only through `scene.optimizer.edit_rows`.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from scene.parameters import (
    EMPTY_SHAPES,
    INSTANCE_OPACITY,
    SCALE_COUNTS,
    Kind,
    check_parameters,
    names_in,
)
from scene.splat_files.columns import CONFIDENCE_COLUMN
from scene.splat_files.splat_file import SplatFile, read_kind, write_splats
from utils.errors import DataError
from utils.neighbors import nearest_neighbors
from utils.spherical_harmonics import coefficient_count, rgb_to_sh_dc

if TYPE_CHECKING:
    from scene.frame import SceneFrame
    from scene.points import PointCloud

logger = logging.getLogger(__name__)

INITIAL_OPACITY = 0.1  # faint, so that early mistakes are cheap to see through
INSTANCE_STD = 0.1  # small and random: identical attributes could not be told apart by a decoder
MIN_SQUARED_SCALE = 1e-7  # of coinciding points, whose neighbour distance is zero
SCALE_NEIGHBORS = 3


class GaussianModel:
    """`params` holds the raw nn.Parameters: means [N,3], log_scales [N,2] of discs or [N,3] of
    ellipsoids, quaternions [N,4] (wxyz, not normalised), opacity_logits [N,1], sh_dc [N,1,3],
    sh_rest [N,K-1,3], instance [N,D_obj]; and instance_opacity_logits [N,1] where instances were
    learned with opacities of their own.
    """

    def __init__(self, values: dict[str, Tensor], active_sh_degree: int = 0) -> None:
        """Take ownership of raw `values`; raises ValueError where names or shapes do not fit."""
        self._take(values, active_sh_degree)

    def _take(self, values: dict[str, Tensor], active_sh_degree: int) -> None:
        self.sh_degree = check_parameters(values)
        self.active_sh_degree = min(active_sh_degree, self.sh_degree)
        self.params = {n: nn.Parameter(values[n].detach().contiguous()) for n in names_in(values)}

    def __len__(self) -> int:
        return self.params["means"].shape[0]

    @property
    def device(self) -> torch.device:
        return self.params["means"].device

    @property
    def scale_dims(self) -> int:
        """Scales of a splat: two of a disc, three of an ellipsoid."""
        return self.params["log_scales"].shape[1]

    @property
    def kind(self) -> Kind:
        """What its splats are: `2dgs` (discs) or `3dgs` (ellipsoids)."""
        return SCALE_COUNTS[self.scale_dims]

    @property
    def means(self) -> Tensor:
        """Centres [N, 3] in world units."""
        return self.params["means"]

    @property
    def scales(self) -> Tensor:
        """Standard deviations [N, scale_dims] along `axes`."""
        return self.params["log_scales"].exp()

    @property
    def rotations(self) -> Tensor:
        """Unit quaternions [N, 4], wxyz, splat to world."""
        return nn.functional.normalize(self.params["quaternions"], dim=-1)

    @property
    def opacities(self) -> Tensor:
        """Opacities [N, 1] in (0, 1)."""
        return self.params["opacity_logits"].sigmoid()

    @property
    def sh(self) -> Tensor:
        """All SH coefficients [N, K, 3]; the renderer uses those up to `active_sh_degree`."""
        return torch.cat([self.params["sh_dc"], self.params["sh_rest"]], dim=1)

    @property
    def instance(self) -> Tensor:
        """Instance attributes [N, D_obj], without activation."""
        return self.params["instance"]

    @property
    def instance_dim(self) -> int:
        return self.params["instance"].shape[1]

    def for_instances(self) -> GaussianModel:
        """The splats as their instances are rendered: with the opacities that were learned for
        them, where there are any. Shares all other parameters; nothing has a gradient.
        """
        if INSTANCE_OPACITY not in self.params:
            return self
        values = {name: p.detach() for name, p in self.params.items()}
        values["opacity_logits"] = values.pop(INSTANCE_OPACITY)
        return type(self)._of(values, self.active_sh_degree)

    def for_colors(self) -> GaussianModel:
        """The splats as their colours are rendered, whoever asks: without such opacities."""
        if INSTANCE_OPACITY not in self.params:
            return self
        values = {name: p.detach() for name, p in self.params.items() if name != INSTANCE_OPACITY}
        return type(self)._of(values, self.active_sh_degree)

    @classmethod
    def _of(cls, values: dict[str, Tensor], active_sh_degree: int) -> GaussianModel:
        return GaussianModel(values, active_sh_degree)

    def axes(self) -> Tensor:
        """Unit axes of the scales as columns [N, 3, scale_dims] in world coordinates."""
        return rotation_matrices(self.params["quaternions"])[:, :, : self.scale_dims]

    def normals(self) -> Tensor:
        """Unit normals [N, 3] in world coordinates, of ellipsoids their shortest axes; their sign
        carries no meaning."""
        matrices = rotation_matrices(self.params["quaternions"])
        if self.kind == "2dgs":
            return matrices[:, :, 2]
        shortest = self.params["log_scales"].argmin(dim=1)
        return matrices[torch.arange(len(self), device=self.device), :, shortest]

    def raise_sh_degree(self) -> None:
        """Let the renderer use one degree more, up to `sh_degree`."""
        self.active_sh_degree = min(self.active_sh_degree + 1, self.sh_degree)

    @classmethod
    def from_points(
        cls,
        points: PointCloud,
        sh_degree: int,
        instance_dim: int,
        generator: torch.Generator,
        std: float = INSTANCE_STD,
        scale_dims: int = 2,
    ) -> GaussianModel:
        """One splat a point: sized by its 3 neighbours, turned uniformly at random, faint.

        `std` is that of the normal instance attributes, `scale_dims` 2 makes discs and 3 spheres.

        Random numbers are drawn on the generator's device (CPU) and the model starts on the CPU.
        Raises DataError for an empty cloud.
        """
        means = torch.as_tensor(points.positions, dtype=torch.float32).detach().cpu().clone()
        colors = torch.as_tensor(points.colors, dtype=torch.float32).detach().cpu()
        n = len(means)
        if n == 0:
            raise DataError("the point cloud is empty; give points or use --random_init")
        values = {
            "means": means,
            "log_scales": _neighbor_log_scales(means)[:, None].repeat(1, scale_dims),
            "quaternions": random_rotations(n, generator),
            "opacity_logits": torch.full((n, 1), math.log(INITIAL_OPACITY / (1 - INITIAL_OPACITY))),
            "sh_dc": rgb_to_sh_dc(colors)[:, None, :].contiguous(),
            "sh_rest": torch.zeros(n, coefficient_count(sh_degree) - 1, 3),
            "instance": random_instance(n, instance_dim, generator, std),
        }
        return cls(values)

    def subset(self, mask: Tensor) -> GaussianModel:
        """A new model of the rows that boolean `mask` [N] (or an index tensor) selects."""
        rows = {name: p.detach()[mask].clone() for name, p in self.params.items()}
        return GaussianModel(rows, self.active_sh_degree)

    def to(self, device: str | torch.device) -> GaussianModel:
        """Move all parameters in place, before an optimizer knows them; returns self."""
        self.params = {n: nn.Parameter(p.detach().to(device)) for n, p in self.params.items()}
        return self

    def save_ply(
        self,
        path: str | Path,
        viewer: bool = False,
        instance: Tensor | np.ndarray | None = None,
        confidence: Tensor | None = None,
        frame: SceneFrame | None = None,
    ) -> None:
        """Write the columns of 2DGS or 3DGS plus `obj_dc_*`; with `viewer` those that 3DGS viewers
        need (discs: a third, vanishing scale; no `obj_dc_*`), turned so that the frame's up is -y.
        Integer labels `instance` [N] add a column, their `confidence` [N] another, `instance_conf`.
        Comments tell what the frame is.
        """
        raw = {name: p.detach().cpu().numpy() for name, p in self.params.items()}
        labels = None if instance is None else torch.as_tensor(instance).detach().cpu().numpy()
        extra = {}
        if confidence is not None:
            extra[CONFIDENCE_COLUMN] = confidence.detach().cpu().numpy().astype(np.float32)
        write_splats(path, raw, viewer=viewer, labels=labels, extra=extra, frame=frame)

    @classmethod
    def load_ply(
        cls,
        path: str | Path,
        instance_dim: int | None = None,
        generator: torch.Generator | None = None,
        flatten: bool = False,
        frame: SceneFrame | None = None,
        kind: Kind | None = "2dgs",
    ) -> GaussianModel:
        """Read a PLY of 2DGS, 3DGS, Gaussian Grouping (`obj_dc_*`), OMEGAS (`obj_*`) or ours.

        `instance_dim` None takes what the file has; another number than the file's is an error. A
        file without attributes gets random ones from `generator` (zeros without a generator).
        Splats of another `kind` are refused (None takes any); `flatten` makes discs of 3D
        Gaussians, without the shortest axis of each. `frame` moves the splats to its origin; None
        takes positions as they are. The reader's notices are logged. Raises FormatError, DataError.
        """
        file = read_kind(path, kind, flatten, frame)
        for notice in file.notices:
            logger.warning("%s", notice)
        return cls.from_splats(file, str(path), instance_dim, generator)

    @classmethod
    def from_splats(
        cls,
        file: SplatFile,
        path: str,
        instance_dim: int | None = None,
        generator: torch.Generator | None = None,
    ) -> GaussianModel:
        """The splats of a file that was read; see `load_ply`. `path` names it in errors."""
        values = {name: torch.from_numpy(array) for name, array in file.raw.items()}
        stored = values["instance"].shape[1]
        if stored == 0 and instance_dim:
            values["instance"] = (
                torch.zeros(len(file), instance_dim)
                if generator is None
                else random_instance(len(file), instance_dim, generator)
            )
        elif instance_dim is not None and stored != instance_dim:
            raise DataError(f"{path}: has {stored} instance channels, but {instance_dim} are asked")
        model = cls(values)
        model.active_sh_degree = model.sh_degree
        return model

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors (they share memory with the parameters) and numbers."""
        params = {name: p.detach() for name, p in self.params.items()}
        return {"active_sh_degree": self.active_sh_degree, "params": params}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace all parameters by copies, of any N; call before an optimizer knows them.

        Raises DataError where the state is not one of a model.
        """
        try:
            values = {n: v.detach().clone().to(self.device) for n, v in state["params"].items()}
            self._take(values, int(state["active_sh_degree"]))
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise DataError(f"the saved Gaussians do not fit: {error}") from None

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> GaussianModel:
        """A new CPU model from what `state_dict` gave."""
        empty = {name: torch.zeros(shape) for name, shape in EMPTY_SHAPES.items()}
        model = cls(empty)
        model.load_state_dict(state)
        return model


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of quaternions [N, 4] (wxyz, any positive length)."""
    w, x, y, z = nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """Quaternions [count, 4] uniform on SO(3): the direction of a 4D normal vector is uniform."""
    return nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)


def random_instance(
    count: int, dim: int, generator: torch.Generator, std: float = INSTANCE_STD
) -> Tensor:
    """Initial instance attributes [count, dim], normal with standard deviation `std`."""
    return std * torch.randn(count, dim, generator=generator)


def _neighbor_log_scales(means: Tensor) -> Tensor:
    """Logarithm of the root mean square distance to the nearest points, [N]."""
    _, distances = nearest_neighbors(means, SCALE_NEIGHBORS)
    squared = distances.square().mean(dim=1) if distances.shape[1] else torch.zeros(len(means))
    return 0.5 * squared.clamp_min(MIN_SQUARED_SCALE).log()
