# SPDX-License-Identifier: Apache-2.0
"""Loads a shim library with a planted fault and says how it shows: `caught: ...` or `unnoticed`.

Run by test_cuda_faults.py in a process of its own: operators can be registered only once.
"""

from __future__ import annotations

import ctypes
import sys

import torch

from diff_surfel_rasterization import native
from tests.rasterizer import cuda_host
from tests.rasterizer.cuda_cases import CASES
from tests.rasterizer.scenes import detached, map_tensors, random_loss


def picture(case: str) -> dict[str, torch.Tensor]:
    surfels, view = CASES[case]()
    copy = map_tensors(detached(surfels, torch.float32), lambda t: t.requires_grad_())
    output = native.rasterize_native(copy, view)
    random_loss(output, 0).backward()
    gradients = {name: t.grad for name, t in vars(copy).items() if t is not None}
    return {"color": output.color.detach(), **{k: v for k, v in gradients.items() if v is not None}}


def main(library: str, cases: list[str]) -> None:
    expected = {case: picture(case) for case in cases}
    torch.ops.load_library(library)
    handle = ctypes.CDLL(library)
    operators = getattr(torch.ops, cuda_host.NAMESPACE)
    native._operators = lambda function, tensor: operators
    for reverse in (0, 1):
        handle.cuda_shim_reverse(reverse)
        for case in cases:
            try:
                found = picture(case)
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
