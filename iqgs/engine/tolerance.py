# SPDX-License-Identifier: Apache-2.0
"""What becomes of a step that is not finite: it is left out, or it ends the run with a dump."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from iqgs.engine.ranks import ALONE, Ranks
from iqgs.engine.stages.protocol import Stage, StepLoss, take_step
from utils.errors import IQGSError, NotFiniteError

logger = logging.getLogger(__name__)

LOOK_EVERY = 100  # steps between two looks at all gradients and splats


class Tolerance:
    """Makes steps; of those that are not finite it leaves the first `most` of a run out."""

    def __init__(self, most: int, every_gradient: bool) -> None:
        """`every_gradient`: look at those of every step."""
        self.most, self.every_gradient = most, every_gradient
        self.skipped = 0  # so far

    def looks_at(self, iteration: int) -> bool:
        """Whether this step's gradients are looked at."""
        return self.every_gradient or iteration % LOOK_EVERY == 0

    def step(
        self,
        stage: Stage,
        iteration: int,
        path: Path,
        dump: Callable[[Path, Stage], None],
        ranks: Ranks = ALONE,
    ) -> StepLoss:
        """One step, made or left out.

        Raises NotFiniteError after `dump` has written to `path` the state that the step began in.
        """
        try:
            return take_step(stage, iteration, ranks, self.looks_at(iteration))
        except NotFiniteError as fault:
            for parameter in stage.parameters():
                parameter.grad = None
            if self.skipped < self.most:
                self.skipped += 1
                logger.warning(
                    "%s; left out, %d of %d (--skip_nonfinite)", fault, self.skipped, self.most
                )
                return StepLoss("", {}, None)
            stage.rewind()
            raise NotFiniteError(f"{fault}; {_kept(path, stage, dump)}") from None


def _kept(path: Path, stage: Stage, dump: Callable[[Path, Stage], None]) -> str:
    """Save the state; the words about it. A dump that fails does not hide the fault."""
    try:
        dump(path, stage)
    except IQGSError as error:
        return f"the state before it could not be saved: {error}"
    return (
        f"the state before it is kept: train.py --start_checkpoint {path} --detect_anomaly "
        "repeats the step, --skip_nonfinite 1 leaves it out"
    )
