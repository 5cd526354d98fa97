# SPDX-License-Identifier: Apache-2.0
"""JSON of files that other programs wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from utils.errors import DataError, FormatError

MAX_JSON_BYTES = 100_000_000


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the scene. Raises DataError, FormatError."""
    record = read_json_value(path, MAX_JSON_BYTES)
    if not isinstance(record, dict):
        raise FormatError(f"{path}: expected a JSON object")
    return record


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects from a file. Raises DataError, FormatError."""
    records = read_json_value(path, MAX_JSON_BYTES)
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise FormatError(f"{path}: expected a JSON list of objects")
    return records


def read_json_value(path: Path, most_bytes: int) -> Any:
    """Any JSON value from a file of at most that size, in UTF-8 or 16, with or without a byte order
    mark. Raises DataError, FormatError.
    """
    try:
        if path.stat().st_size > most_bytes:
            raise FormatError(f"{path}: larger than {most_bytes} bytes")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON ({error})") from error
