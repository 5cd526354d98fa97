# SPDX-License-Identifier: Apache-2.0
"""JSON objects of files that other programs wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from utils.errors import DataError, FormatError

MAX_JSON_BYTES = 100_000_000


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises DataError, FormatError."""
    record = _read(path)
    if not isinstance(record, dict):
        raise FormatError(f"{path}: expected a JSON object")
    return record


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects from a file. Raises DataError, FormatError."""
    records = _read(path)
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise FormatError(f"{path}: expected a JSON list of objects")
    return records


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise FormatError(f"{path}: larger than {MAX_JSON_BYTES} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON ({error})") from error
