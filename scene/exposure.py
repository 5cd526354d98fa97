# SPDX-License-Identifier: Apache-2.0
"""A colour transform for every training view: what its camera metered, apart from the scene.

Photograph v is compared with A_v c + b_v, where c is the rendered colour: an affine transform
[A_v | b_v] of three rows and four columns, as 3DGS's exposure compensation has. A change of all
photographs at once could hide in the transforms as well as in the splats; so their mean over the
training views is kept the identity, and a view that was held out is shown as the mean camera.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.errors import DataError, FormatError
from utils.json_files import read_json
from utils.storage import write_text

EXPOSURE_FILE = "exposure.json"


class Exposures:
    """The transforms of V views, as differences from the identity, which they start with.

    `parameters` are V views [3, 4] of one tensor: Adam lets those rest whose photograph was not
    drawn, and each counts its own steps.
    """

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        """Identities for the views of these names."""
        self.names = tuple(names)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self._differences = torch.zeros(len(self.names), 3, 4, device=device)
        self.parameters = [nn.Parameter(row) for row in self._differences]

    def matrices(self) -> Tensor:
        """[A_v | b_v] of all views, [V, 3, 4]."""
        return self._differences + torch.eye(3, 4, device=self._differences.device)

    def apply(self, name: str, color: Tensor) -> Tensor:
        """The colours [3, H, W] as this view's camera took them; not clamped.

        Differentiable in the colours and in the view's parameter. ValueError for a view that has
        no transform.
        """
        if name not in self.numbers:
            raise ValueError(f"view {name!r} has no exposure: it was not trained on")
        matrix = self.parameters[self.numbers[name]] + torch.eye(3, 4, device=color.device)
        moved = matrix[:, :3] @ color.flatten(1) + matrix[:, 3:]
        return moved.view_as(color)

    def penalty(self, name: str) -> Tensor:
        """Mean square of a view's difference from the identity, scalar."""
        return self.parameters[self.numbers[name]].square().mean()

    @torch.no_grad()
    def fix_gauge(self) -> None:
        """Take the mean difference away from all views: their mean is the identity again."""
        self._differences -= self._differences.mean(0)

    def state_dict(self) -> dict[str, Any]:
        """Names and differences."""
        return {"names": list(self.names), "differences": self._differences.detach().clone()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave. DataError where it is of other views."""
        if tuple(state["names"]) != self.names:
            raise DataError("the saved exposures are those of other training views")
        self._differences.copy_(state["differences"])

    def save(self, path: Path) -> None:
        """Write {view: 3 x 4 numbers} as 3DGS's programs read it: a colour is a row there, so the
        first three columns are the transpose of A_v.
        """
        turned = _turned(self.matrices().detach().cpu())
        table = {name: rows.tolist() for name, rows in zip(self.names, turned, strict=True)}
        write_text(path, json.dumps(table, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Exposures:
        """Read what `save` wrote. Raises DataError, FormatError."""
        table = read_json(path)
        try:
            rows = [torch.tensor(rows, dtype=torch.float32) for rows in table.values()]
            turned = torch.stack(rows).reshape(-1, 3, 4)
        except (TypeError, ValueError, RuntimeError):
            raise FormatError(
                f"{path}: expected three rows of four numbers for each view"
            ) from None
        exposures = cls(tuple(table), device)
        exposures._differences.copy_(_turned(turned) - torch.eye(3, 4))
        return exposures


def _turned(matrices: Tensor) -> Tensor:
    """[A | b] with A transposed, [V, 3, 4]; its own inverse."""
    return torch.cat([matrices[:, :, :3].transpose(1, 2), matrices[:, :, 3:]], dim=2)
