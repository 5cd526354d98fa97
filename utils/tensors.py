# SPDX-License-Identifier: Apache-2.0
"""Small operations on tensors that torch does slower."""

from __future__ import annotations

from torch import Tensor


def select_rows(values: Tensor, index: Tensor) -> Tensor:
    """Rows of `values` [N, C] at `index` [U] -> [U, C].

    `gather` because its backward on the CPU takes half the time of that of plain indexing.
    """
    return values.gather(0, index[:, None].expand(-1, values.shape[1]))
