# SPDX-License-Identifier: Apache-2.0
"""The compiled backends: loads the library and gives its operators gradients.

The library is built by setup.py beside this file, together with a record of what it was built
from and for (`_build_info.json`). Importing this module raises ImportError where the two do not
fit the running Python and torch; where nothing was built `available()` is False.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..library import REBUILD, cuda_problem, load_library
from ..operators import stream_of
from ..quads import quads_from_rows
from ..reference.quads import sample_quads_reference
from ..times import obey_switch
from ..types import (
    BlendWeights,
    Ellipsoids,
    QuadWeights,
    RasterOutput,
    RasterSettings,
    SampledWeights,
    Splats,
)

_PACKAGE = Path(__file__).resolve().parents[1]
_INFO = load_library(_PACKAGE)
if _INFO is not None:
    obey_switch()

# Order of the images in the operator's result; the rest of it is state for the backward pass.
_IMAGES = ("color", "features", "alpha", "depth", "median_depth", "normal", "distortion")
# Order of the tensors of a splat.
_SPLATS = ("means", "scales", "rotations", "opacities", "colors", "sh", "features")
_CARRIERS = ("screen_grad", "screen_grad_abs")


def available() -> bool:
    """Whether the compiled library is loaded."""
    return _INFO is not None


def build_info() -> dict[str, Any]:
    """What the library was built from and for, and the instruction set in use; {} if not built."""
    if _INFO is None:
        return {}
    return {**_INFO, "isa": torch.ops.iqgs_surfel.instruction_set()}


def _operators(function: str, tensor: Tensor) -> Any:
    """The operators; refuses tensors that they cannot take."""
    if _INFO is None:
        raise RuntimeError(f"{function}: the native library is not built; {REBUILD}")
    device = tensor.device
    if device.type not in ("cpu", "cuda"):
        raise RuntimeError(
            f"{function}: got a tensor on {device}, but the native backends serve CPU and CUDA; "
            "move the tensors or use backend='reference'"
        )
    problem = _gpu_problem(device) if device.type == "cuda" else None
    if problem is not None:
        raise RuntimeError(f"{function}: got a tensor on {device}, but {problem}")
    if tensor.dtype != torch.float32:
        raise ValueError(
            f"{function}: the native backends compute in float32, got {tensor.dtype}; "
            "convert the tensors or use backend='reference'"
        )
    return torch.ops.iqgs_surfel


def _refuse_capture(function: str, tensor: Tensor) -> None:
    """Kernels that size their buffers by a number that they read back cannot be replayed."""
    if tensor.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"{function}: cannot be captured in a CUDA graph, because the host reads the number "
            "of pairs of splats and tiles back; call it outside of torch.cuda.graph"
        )


@functools.cache
def _gpu_problem(device: torch.device) -> str | None:
    return cuda_problem(_INFO or {}, device)


def _view(splats: Splats, settings: RasterSettings) -> tuple[list[float], list[int]]:
    """The camera, and what kind the splats are, as the numbers that the operators take."""
    camera = [number for row in settings.world_to_view.tolist() for number in row]
    camera += [settings.fx, settings.fy, settings.cx, settings.cy, settings.near, settings.far]
    camera += [settings.scale_modifier, *settings.background.tolist()]
    options = [settings.width, settings.height, settings.sh_degree]
    options += [settings.low_pass_depth == "center", settings.low_pass_anchor == "aabb"]
    options += [isinstance(splats, Ellipsoids)]
    return [float(x) for x in camera], [int(x) for x in options]


@functools.cache
def _empty(device: torch.device) -> Tensor:
    """Stands for a tensor that is not given. Made once: on a GPU it costs more than it looks."""
    with torch.inference_mode(False):  # it must also serve calls that record gradients
        return torch.empty(0, device=device)


def _splat_tensors(splats: Splats) -> list[Tensor]:
    """The tensors of `_SPLATS`; missing ones are empty, missing features have no channel."""
    empty = _empty(splats.means.device)
    tensors = [getattr(splats, name) for name in _SPLATS[:-1]]
    tensors = [empty if t is None else t for t in tensors]
    features = splats.features
    tensors.append(splats.means.new_empty(len(splats.means), 0) if features is None else features)
    return tensors


class _Rasterize(torch.autograd.Function):
    """Images of one view; first derivatives only."""

    @staticmethod
    def forward(
        ctx: Any, camera: list[float], options: list[int], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        splats = list(tensors[: len(_SPLATS)])
        operators = _operators("rasterize", splats[0])
        result = operators.rasterize(splats, camera, options, stream_of(splats[0]))
        images, radii, state = result[: len(_IMAGES)], result[len(_IMAGES)], result[8:]
        ctx.view = camera, options
        ctx.save_for_backward(*splats, radii, *state)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(radii)
        return (*images, radii)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        splats, radii, state = saved[: len(_SPLATS)], saved[len(_SPLATS)], saved[len(_SPLATS) + 1 :]
        empty = _empty(radii.device)
        images = [empty if g is None else g for g in gradients[: len(_IMAGES)]]
        wanted = list(ctx.needs_input_grad[2:])
        results = _operators("rasterize", splats[0]).rasterize_backward(
            splats, *ctx.view, radii, state, images, [int(w) for w in wanted], stream_of(splats[0])
        )
        kept = (g if w else None for g, w in zip(results, wanted, strict=True))
        return (None, None, *kept)


def rasterize_native(splats: Splats, settings: RasterSettings) -> RasterOutput:
    """Render on the tensors' device; see `rasterize`. Same bits on every run.

    Raises:
        RuntimeError: the library is not built, or not for the tensors' device.
        ValueError: a tensor is not float32 or has a wrong shape.
    """
    _refuse_capture("rasterize", splats.means)
    camera, options = _view(splats, settings)
    empty = _empty(splats.means.device)
    carriers = [getattr(splats, name) for name in _CARRIERS]
    carriers = [empty if carrier is None else carrier for carrier in carriers]
    *images, radii = _Rasterize.apply(camera, options, *_splat_tensors(splats), *carriers)
    return RasterOutput(**dict(zip(_IMAGES, images, strict=True)), radii=radii)


@torch.no_grad()
def blend_weights_native(
    splats: Splats, settings: RasterSettings, min_weight: float = 0.0
) -> BlendWeights:
    """Weights of every pixel, front to back; see `blend_weights`."""
    _refuse_capture("blend_weights", splats.means)
    operators = _operators("blend_weights", splats.means)
    tensors = [t.detach() for t in _splat_tensors(splats)]
    row_start, splat, weight = operators.blend_weights(
        tensors, *_view(splats, settings), min_weight, stream_of(splats.means)
    )
    return BlendWeights(row_start, splat, weight, n_splats=len(splats.means))


@torch.no_grad()
def add_label_weights_native(
    splats: Splats, settings: RasterSettings, labels: Tensor, sums: Tensor, min_weight: float = 0.0
) -> None:
    """Weights summed by the labels of the pixels; see `add_label_weights`. Deterministic."""
    _refuse_capture("add_label_weights", splats.means)
    operators = _operators("add_label_weights", splats.means)
    tensors = [t.detach() for t in _splat_tensors(splats)]
    view, stream = _view(splats, settings), stream_of(splats.means)
    operators.add_label_weights(tensors, *view, min_weight, labels, sums, stream)


class _SplatWeights(torch.autograd.Function):
    """Rows of a sparse matrix times dense values; the matrix has no gradient."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weights: BlendWeights, rows: Tensor, all_rows: bool
    ) -> Tensor:
        matrix = weights.row_start, weights.splat, weights.weight
        ctx.save_for_backward(*matrix, rows)
        ctx.all_rows, ctx.n_splats = all_rows, len(values)
        operators = _operators("splat_weights", values)
        image: Tensor = operators.splat_weights(*matrix, rows, all_rows, values, stream_of(values))
        return image

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        *matrix, rows = ctx.saved_tensors
        operators = _operators("splat_weights", gradient)
        result: Tensor = operators.splat_weights_backward(
            *matrix, rows, ctx.all_rows, gradient, ctx.n_splats, stream_of(gradient)
        )
        return result, None, None, None


def splat_weights_native(weights: BlendWeights, rows: Tensor | None, values: Tensor) -> Tensor:
    """Values [N, C] blended at pixel rows [P] (None: all); see `splat_weights`. Deterministic."""
    chosen = weights.row_start.new_empty(0) if rows is None else rows.contiguous()
    image: Tensor = _SplatWeights.apply(values, weights, chosen, rows is None)
    return image


@torch.no_grad()
def quad_weights_cpu(
    splats: Splats, settings: RasterSettings, min_weight: float = 0.0
) -> QuadWeights:
    """Weights by quads of pixels; see `quad_weights`."""
    operators = _operators("quad_weights", splats.means)
    tensors = [t.detach() for t in _splat_tensors(splats)]
    start, row, weight, extra = operators.quad_weights(
        tensors, *_view(splats, settings), min_weight, 0
    )
    count = len(splats.means)
    return QuadWeights(start, row, weight, extra, settings.width, settings.height, count)


@torch.no_grad()
def quad_weights_cuda(
    splats: Splats, settings: RasterSettings, min_weight: float = 0.0
) -> QuadWeights:
    """The same on a GPU, from the weights of the pixels."""
    rows = blend_weights_native(splats, settings, min_weight)
    towards = settings.world_to_view.to(splats.means)[2]
    depth = splats.means @ towards[:3] + towards[3]
    return quads_from_rows(rows, depth, settings.width, settings.height)


def _sizes(weights: QuadWeights) -> list[int]:
    return [weights.width, weights.height, weights.n_splats]


LEAST_CHANNELS = 4  # that the products with quads take


class _SplatQuads(torch.autograd.Function):
    """All quads of a view times dense values; the weights have no gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: QuadWeights, ordered: bool) -> Tensor:
        ctx.weights, ctx.ordered = weights, ordered
        operators = _operators("splat_quads", values)
        image: Tensor = operators.splat_quads(
            list(weights.tensors), _sizes(weights), values, stream_of(values)
        )
        return image

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weights: QuadWeights = ctx.weights
        operators = _operators("splat_quads", gradient)
        by_splat = list(weights.by_splat) if ctx.ordered else []
        result: Tensor = operators.splat_quads_backward(
            list(weights.tensors), _sizes(weights), by_splat, gradient, stream_of(gradient)
        )
        return result, None, None


def _splat_quads(weights: QuadWeights, values: Tensor, ordered: bool) -> Tensor:
    """Values [N, C] blended at every pixel. `ordered`: the backward pass asks the table for the
    order of its entries by splat, which the first one makes and the table keeps.
    """
    channels = values.shape[1]
    missing = max(0, LEAST_CHANNELS - channels)
    if missing:
        values = torch.nn.functional.pad(values, (0, missing))
    image: Tensor = _SplatQuads.apply(values, weights, ordered)
    return image[:, :channels] if missing else image


def splat_quads_cpu(weights: QuadWeights, values: Tensor) -> Tensor:
    """Values [N, C] blended at every pixel; see `splat_quads`. Deterministic."""
    return _splat_quads(weights, values, ordered=False)


def splat_quads_cuda(weights: QuadWeights, values: Tensor) -> Tensor:
    """The same on a GPU."""
    return _splat_quads(weights, values, ordered=True)


@torch.no_grad()
def sample_quads_cpu(weights: QuadWeights, pixels: Tensor) -> SampledWeights:
    """The weights of chosen pixels; see `sample_quads`."""
    operators = _operators("sample_quads", weights.row.new_empty(0, dtype=torch.float32))
    row_start, splat, weight, touched = operators.sample_quads(
        list(weights.tensors), _sizes(weights), pixels, 0
    )
    return SampledWeights(BlendWeights(row_start, splat, weight, len(touched)), touched)


# The tensors' device decides inside; these are the names that `backends` looks up.
rasterize_cpu = rasterize_cuda = rasterize_native
blend_weights_cpu = blend_weights_cuda = blend_weights_native
add_label_weights_cpu = add_label_weights_cuda = add_label_weights_native
splat_weights_cpu = splat_weights_cuda = splat_weights_native
sample_quads_cuda = sample_quads_reference
