# SPDX-License-Identifier: Apache-2.0
"""Every CUDA kernel once on a GPU, nothing compared: what NVIDIA's checkers run.

    compute-sanitizer --tool memcheck python -m tests.rasterizer.cuda_workload

The tests say whether the numbers are right, but spend most of their time in the reference, whose
thousands of small kernels a checker would instrument as well.
"""

from __future__ import annotations

import sys

import torch

from diff_surfel_rasterization import (
    available_backends,
    blend_weights,
    quad_weights,
    rasterize,
    sample_quads,
    splat_quads,
    splat_weights,
)
from diff_surfel_rasterization.losses import image_loss, mask_loss
from tests.rasterizer.cuda_cases import CASES
from tests.rasterizer.losses.image_cases import make_pair, make_weight
from tests.rasterizer.losses.test_mask_loss import leaves, make
from tests.rasterizer.quad_cases import case_of
from tests.rasterizer.scenes import detached, map_tensors, random_loss

DEVICE = "cuda"


def render(name: str) -> None:
    """A case forward and backward, and its weights."""
    surfels, view = CASES[name]()
    there = map_tensors(detached(surfels, torch.float32), lambda t: t.to(DEVICE).requires_grad_())
    random_loss(rasterize(there, view), 0).backward()
    blend_weights(there, view, 0.02)


def multiply(name: str, channels: int) -> None:
    """Stored weights times values in all forms, forward and backward."""
    surfels, view = case_of(name)
    there = map_tensors(surfels, lambda t: t.to(DEVICE))
    quads, rows = quad_weights(there, view, 1 / 255), blend_weights(there, view)
    values = torch.ones(len(surfels.means), channels, device=DEVICE, requires_grad=True)
    pixels = torch.tensor([3, 20, 3, 77], device=DEVICE)
    sampled = sample_quads(quads, pixels)
    every = splat_quads(quads, values).sum() + splat_weights(rows, None, values).sum()
    every = every + splat_weights(rows, pixels, values).sum()
    (every + splat_weights(sampled.weights, None, values[sampled.touched]).sum()).backward()


def lose(size: tuple[int, ...]) -> None:
    """The mask losses forward and backward."""
    queries, features, owner = (t.to(DEVICE) for t in make(*size))
    there = leaves(queries, features, dtype=torch.float32)
    focal, dice = mask_loss(*there, owner, 2.0, 0.25)
    (focal.sum() + dice.sum()).backward()


def compare(weighted: bool) -> None:
    """The image losses forward and backward."""
    image, target = (t.to(DEVICE) for t in make_pair(70, 90))
    weight = make_weight(70, 90).to(DEVICE) if weighted else None
    l1, dssim = image_loss(image.requires_grad_(), target, weight)
    (l1 + dssim).backward()


def main() -> None:
    """Ends with code 0 when everything ran; what is wrong the checker says."""
    if "cuda" not in available_backends():
        sys.exit("error: needs an NVIDIA GPU and a build with CUDA: bash scripts/setup.sh there")
    for name in CASES:
        render(name)
    for name in ("small", "bands"):
        multiply(name, 16)
    for size in ((30, 2048, 16), (9, 1500, 35)):
        lose(size)
    for weighted in (False, True):
        compare(weighted)
    torch.cuda.synchronize()
    sys.stdout.write("every kernel has run\n")


if __name__ == "__main__":
    main()
