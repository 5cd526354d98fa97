# SPDX-License-Identifier: Apache-2.0
"""Raw parameters to splats with the gradient of it, and the densification signal."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..backends import choose_backend
from ..checks import check_shape
from .native import activate_native, add_signal_native
from .reference import activate_reference, add_signal_reference


class Activated(NamedTuple):
    """What the rasterizer takes of N splats."""

    scales: Tensor  # [N, S]
    opacities: Tensor  # [N, 1]
    sh: Tensor  # [N, used, 3]


def activate_splats(
    log_scales: Tensor,
    opacity_logits: Tensor,
    sh_dc: Tensor,
    sh_rest: Tensor,
    sh_degree: int,
    backend: str = "auto",
) -> Activated:
    """Scales exp(l), opacities 1 / (1 + exp(-o)), and the SH coefficients side by side.

    Only the coefficients of the bands up to `sh_degree` are copied; those above get a gradient of
    zero. Rotations need nothing: the rasterizer normalises quaternions itself.

    Args:
        log_scales: [N, S] floating.
        opacity_logits: [N, 1]; all tensors have one type and device.
        sh_dc: [N, 1, 3], the first coefficients.
        sh_rest: [N, K - 1, 3], the others.
        sh_degree: The active degree; (sh_degree + 1)^2 coefficients go out.
        backend: As in `rasterize`.

    Returns:
        Tensors that are differentiable once in all four arguments.

    Raises:
        ValueError: a tensor has a wrong shape or type, or there are too few coefficients.
        RuntimeError: the requested backend is not built.
    """
    name, used = "activate_splats", (sh_degree + 1) ** 2
    check_shape(name, "log_scales", log_scales, ("N", "S"))
    count = len(log_scales)
    check_shape(name, "opacity_logits", opacity_logits, (count, 1))
    check_shape(name, "sh_dc", sh_dc, (count, 1, 3))
    check_shape(name, "sh_rest", sh_rest, (count, "K - 1", 3))
    if not 1 <= used <= sh_rest.shape[1] + 1:
        found = f"{sh_rest.shape[1] + 1} coefficients"
        raise ValueError(f"{name}: sh_degree {sh_degree} needs {used} coefficients, got {found}")
    chosen = choose_backend(name, backend, log_scales)
    compute = activate_reference if chosen == "reference" else activate_native
    return Activated(*compute(log_scales, opacity_logits, sh_dc, sh_rest, used))


def add_screen_signal(
    total: Tensor, seen: Tensor, radii: Tensor, signal: Tensor, backend: str = "auto"
) -> None:
    """Add one view to what a densifier keeps of N splats: where radii > 0, the length of the
    signal to `total` and 1 to `seen`, in place.

    Args:
        total: [N] floating, contiguous.
        seen: [N], like `total`.
        radii: [N] int32, as `rasterize` gives them.
        signal: [N, 3] x, y and a number that is not read: the gradient of `screen_grad` or of
            `screen_grad_abs`.
        backend: As in `rasterize`.

    Raises:
        ValueError: a tensor has a wrong shape.
        RuntimeError: the requested backend is not built.
    """
    name, count = "add_screen_signal", len(total)
    for argument, value in (("total", total), ("seen", seen), ("radii", radii)):
        check_shape(name, argument, value, (count,))
    check_shape(name, "signal", signal, (count, 3))
    chosen = choose_backend(name, backend, total)
    add = add_signal_reference if chosen == "reference" else add_signal_native
    add(total, seen, radii, signal)
