# SPDX-License-Identifier: Apache-2.0
"""Adam at the cost of the rows that are looked at is Adam."""

from __future__ import annotations

import pytest
import torch

from scene.lazy_adam import LazyAdam


def rate_at(step: int) -> float:
    return 0.03 * (1 - step / 900)


def both(
    steps: int, dtype: torch.dtype, seed: int = 0, stop_at: int = -1
) -> tuple[torch.Tensor, torch.Tensor]:
    """(torch's, ours) after steps that each look at a few rows; some rows rest for long."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(40, 3, generator=generator, dtype=dtype)
    dense = torch.nn.Parameter(start.clone())
    oracle = torch.optim.Adam([dense], eps=1e-15)
    lazy = LazyAdam(torch.nn.Parameter(start.clone()), 1e-15)
    for step in range(steps):
        count = int(torch.randint(1, 8, (1,), generator=generator))
        rows = torch.randperm(25, generator=generator)[:count].sort().values
        if step % 97 == 0:  # rows 25..29 are looked at rarely, 30..39 never
            rows = torch.cat([rows, torch.arange(25, 30)])
        gradient = torch.randn(len(rows), 3, generator=generator, dtype=dtype)
        seen = lazy.look_at(rows)
        torch.testing.assert_close(seen, dense.detach()[rows], rtol=1e-4, atol=1e-5)
        oracle.param_groups[0]["lr"] = rate_at(step)
        dense.grad = torch.zeros_like(dense)
        dense.grad[rows] = gradient
        oracle.step()
        lazy.step(rows, gradient, rate_at(step))
        if step == stop_at:
            again = LazyAdam(torch.nn.Parameter(lazy.parameter.detach().clone()), 1e-15)
            again.load_state_dict(lazy.state_dict())
            lazy = again
    return dense.detach(), lazy.current()


def test_every_row_is_where_adam_would_have_moved_it() -> None:
    dense, lazy = both(800, torch.float64)
    torch.testing.assert_close(lazy, dense, rtol=1e-9, atol=1e-10)
    dense, lazy = both(800, torch.float32)
    torch.testing.assert_close(lazy, dense, rtol=1e-4, atol=1e-5)


def test_a_state_that_is_put_back_goes_on_with_the_same_bits() -> None:
    whole, stopped = both(300, torch.float32)[1], both(300, torch.float32, stop_at=150)[1]
    assert torch.equal(whole, stopped)


def test_looking_at_the_current_values_changes_nothing() -> None:
    lazy = LazyAdam(torch.nn.Parameter(torch.ones(4, 2)), 1e-15)
    lazy.look_at(torch.tensor([1]))
    lazy.step(torch.tensor([1]), torch.ones(1, 2), 0.1)
    lazy.look_at(torch.tensor([2]))
    lazy.step(torch.tensor([2]), torch.ones(1, 2), 0.1)
    before = [lazy.parameter.detach().clone(), lazy.mean.clone(), lazy.last.clone()]
    assert not torch.equal(lazy.current()[1], lazy.parameter[1])  # row 1 has moved on since
    for old, new in zip(before, (lazy.parameter.detach(), lazy.mean, lazy.last), strict=True):
        assert torch.equal(old, new)


def test_moments_of_other_rows_are_refused() -> None:
    lazy = LazyAdam(torch.nn.Parameter(torch.ones(4, 2)), 1e-15)
    other = LazyAdam(torch.nn.Parameter(torch.ones(5, 2)), 1e-15)
    with pytest.raises(ValueError, match=r"\[4, 2\], got \[5, 2\]"):
        lazy.load_state_dict(other.state_dict())
