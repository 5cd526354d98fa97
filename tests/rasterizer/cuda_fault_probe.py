# SPDX-License-Identifier: Apache-2.0
"""Loads a shim library with a planted fault and says how it shows: `caught: ...` or `unnoticed`.

Run by test_cuda_faults.py in a process of its own: operators can be registered only once.
"""

from __future__ import annotations

import ctypes
import sys

import torch

from diff_surfel_rasterization import losses, native
from diff_surfel_rasterization.losses import native as native_losses
from tests.rasterizer import cuda_host
from tests.rasterizer.cuda_cases import CASES
from tests.rasterizer.losses.image_cases import make_pair, make_weight, with_gradient
from tests.rasterizer.losses.test_mask_loss import leaves, make, with_gradients
from tests.rasterizer.scenes import detached, map_tensors, random_loss

IMAGE_LOSS, MASK_LOSS = "image loss", "mask loss"


def results(case: str) -> dict[str, torch.Tensor]:
    """Values and gradients of a case of the rasterizer, or of one of the losses."""
    if case == IMAGE_LOSS:
        image, target = make_pair(37, 70)
        x = image.requires_grad_()
        found = with_gradient(losses.image_loss(x, target, make_weight(37, 70)), x)
    elif case == MASK_LOSS:
        queries, features, owner = make(9, 1500, 35)
        pair = leaves(queries, features, dtype=torch.float32)
        found = with_gradients(losses.mask_loss(*pair, owner, 2.0, 0.25), *pair)
    else:
        return picture(case)
    return {f"{case} {i}": tensor.detach() for i, tensor in enumerate(found)}


def picture(case: str) -> dict[str, torch.Tensor]:
    surfels, view = CASES[case]()
    copy = map_tensors(detached(surfels, torch.float32), lambda t: t.requires_grad_())
    output = native.rasterize_native(copy, view)
    random_loss(output, 0).backward()
    gradients = {name: t.grad for name, t in vars(copy).items() if t is not None}
    return {"color": output.color.detach(), **{k: v for k, v in gradients.items() if v is not None}}


def main(library: str, cases: list[str]) -> None:
    expected = {case: results(case) for case in cases}
    torch.ops.load_library(library)
    handle = ctypes.CDLL(library)
    operators = getattr(torch.ops, cuda_host.NAMESPACE)
    native._operators = lambda function, tensor: operators
    native_losses.operators = lambda: operators
    for reverse in (0, 1):
        handle.cuda_shim_reverse(reverse)
        for case in cases:
            try:
                found = results(case)
            except RuntimeError as error:
                sys.stdout.write(f"caught: {str(error).splitlines()[0]}\n")
                return
            for name, want in expected[case].items():
                error = float((found[name] - want).norm() / want.norm().clamp_min(1e-6))
                if not error < 1e-3:
                    sys.stdout.write(f"caught: {name} is off by {error:.2g} in {case}\n")
                    return
    sys.stdout.write("unnoticed\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
