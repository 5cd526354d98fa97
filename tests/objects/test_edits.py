# SPDX-License-Identifier: Apache-2.0
"""Edits are lines of JSON that say everything, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest

from iqgs.objects import edits
from iqgs.objects.edits import from_record, to_record

EVERY = (
    edits.Remove((3, 7), hull=True),
    edits.Isolate((300,)),
    edits.Recolor((3,), (0.1, 1 / 3, 1e-17)),
    edits.Move((3,), edits.Motion((0.1, 0.2, 0.3), (1.0, 0.0, -2.0), (0.0, 1.0, 0.0), 30.5, 2.0)),
    edits.Copy((3, 7), (301, 302), edits.Motion((0.0, 0.0, 0.0))),
    edits.Merge((3, 7), 7),
    edits.Split(3, (301,)),
    edits.Split(0, (301,), box=(-1.0, -1.0, -1.0, 1.0, 1.0, 1.0)),
    edits.Split(3, (301,), plane=(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
    edits.Name(3, 'a "cup" ☕'),
    edits.Clean("edits/clean-0123456789ab.npz", "00"),
)


@pytest.mark.parametrize("edit", EVERY, ids=lambda edit: type(edit).__name__)
def test_an_edit_survives_json(edit: edits.Edit) -> None:
    assert from_record(json.loads(json.dumps(to_record(edit)))) == edit


def test_every_kind_is_tried() -> None:
    assert {type(edit) for edit in EVERY} == set(edits.KINDS.values())


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"edit": "explode", "objects": [1]},
        {"edit": "remove"},
        {"edit": "remove", "objects": 3},
        {"edit": "remove", "objects": ["3"]},
        {"edit": "remove", "objects": [-3]},
        {"edit": "remove", "objects": [True]},
        {"edit": "remove", "objects": [3], "hull": 1},
        {"edit": "remove", "objects": [3], "more": 1},
        {"edit": "recolor", "objects": [3], "color": [0.1, 0.2]},
        {"edit": "recolor", "objects": [3], "color": [0.1, 0.2, float("nan")]},
        {"edit": "move", "objects": [3], "motion": {}},
        {"edit": "move", "objects": [3], "motion": {"center": [0, 0, 0], "scale": 0}},
        {"edit": "move", "objects": [3], "motion": {"center": [0, 0, 0], "axis": [0, 0, 0]}},
        {"edit": "clean", "file": "../../etc/passwd", "sha256": ""},
    ],
    ids=str,
)
def test_what_is_no_edit_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        from_record(record)
