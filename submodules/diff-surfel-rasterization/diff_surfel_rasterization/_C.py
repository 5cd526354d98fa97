# SPDX-License-Identifier: Apache-2.0
"""What installers of 2DGS code import to see whether the compiled part is there.

Importing it says so or raises ImportError with the reason. It has none of the functions that such
an extension has in other rasterizers: these belong to their kernels, and asking for one says where
to turn instead.
"""

from __future__ import annotations

from .backends import backend_problem

_problem = backend_problem("cpu")
if _problem is not None:
    raise ImportError(f"diff_surfel_rasterization._C: {_problem}")


def __getattr__(name: str) -> object:
    raise AttributeError(
        f"diff_surfel_rasterization._C has no {name!r}: this rasterizer shares no kernels with "
        "others; call GaussianRasterizer or rasterize of diff_surfel_rasterization"
    )
