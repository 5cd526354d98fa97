# SPDX-License-Identifier: Apache-2.0
"""OMEGAS: the cosine term by hand, as intended and as released, and in which steps it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from arguments import RunConfig
from iqgs.engine.settings import resolve_run
from iqgs.methods.omegas import OmegasParams
from tests.methods.batches import LN2, LN3, make_batch, make_facts, make_method, matrix
from tests.methods.batches import set_classifier as give

# Softmax (3/4, 1/4) and (1/2, 1/2); their cosine is (3/8 + 1/8) / sqrt(10/16 * 1/2).
SPLATS = matrix([[LN3, 0.0], [0.0, 0.0]])
COSINE = 0.5 / math.sqrt(10 / 16 / 2)
PAIRS = [(0, 1), (1, 0), (0, 0), (1, 1)]
MEAN = (COSINE + 1) / 2  # over these pairs
IDENTITY = (math.log(4 / 3) + LN2) / 2 / LN2


def make(**settings: Any) -> Any:
    method = make_method("omegas", OmegasParams(**settings), make_facts(1))
    give(method, torch.eye(2))
    return method


def test_as_intended_by_hand() -> None:
    method = make()
    made = method.terms(make_batch(SPLATS, [0, 1], pairs=PAIRS))
    assert float(made.terms["identity"].detach()) == pytest.approx(IDENTITY)
    wanted = (1 - (MEAN + 1) / 2) / 2  # over two classes
    assert float(made.terms["cosine"].detach()) == pytest.approx(wanted, rel=1e-4)
    assert method.weights == {"identity": 1.0, "cosine": 2.0}
    assert method.neighbors == (5, 1000, 5)
    assert make(lambda_cosine=0.0).neighbors == (5, 0, 5)


def test_as_released_cosines_are_summed_with_the_splat_itself() -> None:
    method = make(variant="released")
    made = method.terms(make_batch(SPLATS, [0, 1], pairs=PAIRS))
    total = 1 + 4 * MEAN  # one itself, four others
    wanted = (1 - (total + 1) / 2) / 2
    assert wanted < 0  # it leaves the range that 1 - (S + 1) / 2 was made for
    assert float(made.terms["cosine"].detach()) == pytest.approx(wanted, rel=1e-4)
    assert method.neighbors == (4, 1000, 5)
    assert make(variant="released", lambda_cosine=0.0).neighbors == (4, 1000, 5)


def test_as_released_most_steps_learn_nothing() -> None:
    splats = SPLATS.clone().requires_grad_()
    made = make(variant="released").terms(make_batch(splats, [0, 1]))
    assert {name: float(term.detach()) for name, term in made.terms.items()} == {"identity": 0.0}
    made.terms["identity"].backward()
    assert splats.grad is not None and not splats.grad.any()
    assert len(made.seen) == 0
    made = make().terms(make_batch(splats, [0, 1]))  # as intended they learn ids
    assert float(made.terms["identity"].detach()) == pytest.approx(IDENTITY)


def test_neighbours_become_alike() -> None:
    splats = SPLATS.clone().requires_grad_()
    for variant in ("intended", "released"):
        method = make(variant=variant)
        method.terms(make_batch(splats, [0, 1], pairs=[(0, 1)])).terms["cosine"].backward()
        assert splats.grad is not None
        assert float(splats.grad[0, 0]) > 0 > float(splats.grad[1, 0])  # descent closes the gap
        splats.grad = None


def test_the_paper_preset_is_what_was_released() -> None:
    config: RunConfig = resolve_run({"method": "omegas", "preset": "paper"})
    assert config.segmentation.instance_dim == 8
    assert config.method.released and config.method.classes == 256
    assert not resolve_run({"method": "omegas"}).method.released
