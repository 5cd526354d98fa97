# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import math
import sys
import time

import pytest

from utils.cfg_args import MAX_CHARACTERS, format_cfg_args, parse_cfg_args
from utils.errors import FormatError

# As 2DGS and Gaussian Grouping write them.
FROM_2DGS = (
    "Namespace(data_device='cuda', eval=True, images='images_2', model_path='output/a b',"
    " render_items=['RGB', 'Alpha', 'Normal', 'Depth', 'Edge', 'Curvature'], resolution=-1,"
    " sh_degree=3, source_path='/data/it\\'s \"here\"', white_background=False)"
)
FROM_GG = (
    "Namespace(data_device='cuda', eval=False, images='images', model_path='output/bear',"
    " n_views=100, num_classes=256, object_path='object_mask', random_init=False, resolution=1,"
    " sh_degree=3, source_path='data/bear', train_split=False, white_background=False)"
)

HOSTILE = [
    "__import__('os').system('touch {marker}')",
    "Namespace(a=__import__('os').system('touch {marker}'))",
    "Namespace(a=os.system())",
    "Namespace(**{})",
    "Namespace(**{'a': 1})",
    "Namespace(*[1])",
    "Namespace(1)",
    "Namespace(a=1)(b=2)",
    "Namespace(a=1).a",
    "Other(a=1)",
    "Namespace(a=1, a=2)",
    "Namespace(a=(lambda: 1))",
    "Namespace(a=[x for x in (1, 2)])",
    "Namespace(a=f'{1}')",
    "Namespace(a=1+1)",
    "Namespace(a=1 if 1 else 2)",
    "Namespace(a=b)",
    "Namespace(a=not not not 1)",
    "Namespace(a=" + "-" * 60000 + "1)",
    "Namespace(a=" + "[" * 5000 + "]" * 5000 + ")",
    "Namespace(a=" + "(" * 30000,
    "Namespace(a=" + "{1:" * 5000 + "1" + "}" * 5000 + ")",
    "Namespace(a=" + "9" * 60000 + ")",
    "Namespace(a='" + "x" * 10_000_000 + "')",
    "Namespace(a=1\x00)",
    "Namespace(a='\ud800')",
    "Namespace(a='unclosed)",
    "Namespace(a=1e)",
    "Namespace(a=b'x')",
    "Namespace(a=...)",
    "import os",
    "",
]


@pytest.mark.fault(row=14)
@pytest.mark.parametrize("text", [FROM_2DGS, FROM_GG])
def test_reads_real_files_and_writes_them_back(text: str) -> None:
    namespace = eval(text, {"Namespace": argparse.Namespace})  # the family's own way, as oracle
    assert parse_cfg_args(text + "\n") == vars(namespace)
    assert format_cfg_args(vars(namespace)) == str(namespace)


@pytest.mark.fault(row=13)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_refused_quickly(text: str, tmp_path) -> None:
    marker = tmp_path / "executed"
    start = time.process_time()
    with pytest.raises(FormatError):
        parse_cfg_args(text.replace("{marker}", str(marker)))
    assert time.process_time() - start < 1 and not marker.exists()


@pytest.mark.fault(row=13)
def test_size_limit_is_named() -> None:
    with pytest.raises(FormatError, match=str(MAX_CHARACTERS)):
        parse_cfg_args("Namespace(a='" + "x" * MAX_CHARACTERS + "')")


def test_round_trip_of_every_kind_of_value() -> None:
    values = {
        "text": "a 'b' \"c\" \\ \n é",
        "numbers": [0, -1, 1.6e-06, -0.5, 10**20],
        "nothing": None,
        "flags": (True, False),
        "empty": [[], (), {}],
        "nested": {"k": [1, {"z": -2.5}], 3: "three"},
        "huge": math.inf,
        "low": -math.inf,
    }
    text = format_cfg_args(values)
    assert text == str(argparse.Namespace(**values)) and parse_cfg_args(text) == values
    assert math.isnan(parse_cfg_args("Namespace(a=nan)")["a"])


@pytest.mark.parametrize("values", [{"a b": 1}, {"a": object()}, {"a": {1}}, {"class": 1}])
def test_what_could_not_be_read_back_is_not_written(values: dict) -> None:
    with pytest.raises(ValueError, match="cfg_args"):
        format_cfg_args(values)


@pytest.mark.fault(row=13)
def test_nothing_is_executed() -> None:
    """No audit event of running code fires while hostile text is parsed."""
    seen: list[str] = []
    watch = True

    def hook(event: str, arguments: tuple) -> None:
        if watch and event in {"exec", "os.system", "subprocess.Popen", "import", "os.exec"}:
            seen.append(event)

    sys.addaudithook(hook)
    for text in HOSTILE[:20]:
        with pytest.raises(FormatError):
            parse_cfg_args(text)
    watch = False
    assert seen == []
