# SPDX-License-Identifier: Apache-2.0
"""The text file `cfg_args` of the splatting family: `Namespace(key=literal, ...)`.

Other tools read it back by evaluating it, which runs whatever a downloaded folder contains.
Here it is parsed: literals only, nothing is ever evaluated, and size and depth are bounded.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

from utils.errors import FormatError

MAX_CHARACTERS = 65_536  # real files have one or two thousand; beyond this a parser can be stalled
MAX_DEPTH = 16  # brackets in brackets; Python's own parser fails less politely on deep nesting
_STRING = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
_NUMBER = re.compile(r"(?<![\w.])-?(?:inf|\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_SKELETON = re.compile(r"[\w\s=,:()\[\]{}.-]*")
_SPECIAL_FLOATS = {"inf": math.inf, "nan": math.nan}


def parse_cfg_args(text: str) -> dict[str, Any]:
    """Read `Namespace(a=1, b='x', ...)` into a dictionary; unknown keys are kept as they are.

    Raises FormatError for anything but literals, and for text too long or nested too deeply.
    """
    _check_shape(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in somebody's path are not our news
            call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise FormatError(f"cfg_args is not a Namespace(...) of literals: {error}") from None
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or call.func.id != "Namespace"
        or call.args
    ):
        raise FormatError("cfg_args must hold one Namespace(key=value, ...) and nothing else")
    values: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise FormatError("cfg_args must not unpack with **")
        if keyword.arg in values:
            raise FormatError(f"cfg_args gives {keyword.arg!r} twice")
        values[keyword.arg] = _literal(keyword.value, keyword.arg)
    return values


def format_cfg_args(values: Mapping[str, Any]) -> str:
    """Write `values` exactly as `str(argparse.Namespace(**values))` does.

    Raises ValueError for a key that is no identifier or a value that could not be read back.
    """
    text = "Namespace(" + ", ".join(f"{key}={value!r}" for key, value in values.items()) + ")"
    try:
        parsed = parse_cfg_args(text)
    except FormatError as error:
        raise ValueError(f"cannot be written as cfg_args: {error}") from None
    if list(parsed) != list(values):
        raise ValueError("cfg_args keys must be plain identifiers")
    return text


def _check_shape(text: str) -> None:
    """Bound the work of the parser before it starts."""
    if len(text) > MAX_CHARACTERS:
        raise FormatError(f"cfg_args has {len(text)} characters, more than {MAX_CHARACTERS}")
    skeleton = _NUMBER.sub("0", _STRING.sub("0", text))
    if not _SKELETON.fullmatch(skeleton) or "-" in skeleton:
        raise FormatError("cfg_args holds something that is not a literal")
    if re.search(r"\w\s+\w", skeleton):
        raise FormatError("cfg_args holds two words in a row; a comma or '=' is missing")
    depth = 0
    for character in skeleton:
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_DEPTH:
            raise FormatError(f"cfg_args is nested deeper than {MAX_DEPTH} brackets")


def _literal(node: ast.expr, key: str) -> Any:
    """Value of a literal node; the caller has bounded the depth."""
    if isinstance(node, ast.Constant) and isinstance(
        node.value, (str, int, float, bool, type(None))
    ):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand, key)
        if isinstance(value, (int, float)):
            return -value
    if isinstance(node, ast.Name) and node.id in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[node.id]
    if isinstance(node, ast.List):
        return [_literal(item, key) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item, key) for item in node.elts)
    if isinstance(node, ast.Dict) and all(isinstance(k, ast.Constant) for k in node.keys):
        names = [_literal(k, key) for k in node.keys if k is not None]
        return dict(zip(names, (_literal(v, key) for v in node.values), strict=True))
    raise FormatError(f"cfg_args: the value of {key!r} is not a literal")
