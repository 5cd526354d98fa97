# SPDX-License-Identifier: Apache-2.0
"""Real roots of many depressed quartics at once, by bracketing: no root is lost to cancellation."""

from __future__ import annotations

import numpy as np

# Newton is quadratic near a simple root; bisections in between bound the rounds at a double one.
ROUNDS = 40
# The unit of the unknown is the size of the solid: about 1e-12 m.
SETTLED = 1e-12

Array = np.ndarray


def monotone_root(coefficients: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The root of a polynomial inside brackets on which it is monotone.

    Args:
        coefficients: [D, n] highest power first.
        low, high: [n] ends of each bracket, low <= high.

    Returns:
        root [n], and crossed [n] bool: whether the sign changes over the bracket. Where it does
        not, root is the end where the polynomial is smaller in size.
    """
    at_low, at_high = horner(coefficients, low), horner(coefficients, high)
    crossed = (at_low < 0) != (at_high < 0)
    root = np.where(np.abs(at_low) < np.abs(at_high), low, high)
    where = np.flatnonzero(crossed)
    root[where] = _refine(
        coefficients[:, where], low[where], high[where], (at_high > at_low)[where]
    )
    return root, crossed


def _refine(coefficients: Array, left: Array, right: Array, rising: Array) -> Array:
    """Roots inside brackets [n] with a change of sign, by Newton's steps kept in the bracket."""
    slopes = coefficients[:-1] * np.arange(len(coefficients) - 1, 0, -1.0)[:, None]
    root = 0.5 * (left + right)
    if not root.size:
        return root
    for turn in range(ROUNDS):
        value, slope = horner(coefficients, root), horner(slopes, root)
        below = (value < 0) == rising
        left, right = np.where(below, root, left), np.where(below, right, root)
        step = root - value / np.where(slope == 0, 1.0, slope)
        if (np.abs(step - root) <= SETTLED).all():
            break
        newton = (slope != 0) & (step >= left) & (step <= right)
        if turn % 5 == 4:  # a creeping Newton must not leave the bracket wide
            newton &= np.abs(step - root) <= 1e-6
        root = np.where(newton, step, 0.5 * (left + right))
    return root


def horner(coefficients: Array, at: Array) -> Array:
    """Value of polynomials [D, n] (highest power first) at [n]."""
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * at + coefficient
    return value


def depressed_quartic_roots(p: Array, q: Array, r: Array, reach: Array) -> Array:
    """All real roots of t^4 + p t^2 + q t + r in [-reach, reach].

    The turning points of each derivative bracket the roots of the next one up (quadratic, cubic,
    quartic), so every bracket is monotone.

    Args:
        p, q, r, reach: [n] float64.

    Returns:
        [4, n] ascending, inf where there is no such root.
    """
    zero, one = np.zeros_like(p), np.ones_like(p)
    cubic = np.stack([4 * one, zero, 2 * p, q])
    quartic = np.stack([one, zero, p, q, r])
    bend = np.minimum(np.sqrt(np.maximum(-p / 6.0, 0.0)), reach)
    ends = [-reach, -bend, bend, reach]
    turning, _ = _roots_between(cubic, np.stack(ends))
    knots = np.stack([-reach, *np.sort(turning, axis=0), reach])
    roots, crossed = _roots_between(quartic, knots)
    return np.sort(np.where(crossed, roots, np.inf), axis=0)


def _roots_between(coefficients: Array, knots: Array) -> tuple[Array, Array]:
    """`monotone_root` in the K brackets between knots [K + 1, n], all in one call: [K, n] each."""
    brackets = len(knots) - 1
    found = monotone_root(np.tile(coefficients, brackets), knots[:-1].ravel(), knots[1:].ravel())
    return found[0].reshape(brackets, -1), found[1].reshape(brackets, -1)
