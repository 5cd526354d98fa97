# SPDX-License-Identifier: Apache-2.0
"""Settings from layers: field defaults < preset < file or saved run < command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

from arguments.groups import GROUPS, RunConfig
from arguments.presets import PRESETS
from utils.errors import FormatError, UserError

FIELD_GROUP = {
    field.name: name for name, cls in GROUPS.items() for field in dataclasses.fields(cls)
}
FIELD_TYPE: dict[str, Any] = {
    name: kind for cls in GROUPS.values() for name, kind in typing.get_type_hints(cls).items()
}


class OneLineParser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are one sentence, raised as `UserError`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def add_groups(parser: argparse.ArgumentParser, names: tuple[str, ...] = tuple(GROUPS)) -> None:
    """Add the options of these groups; nothing that was not typed enters the namespace."""
    for name in names:
        cls = GROUPS[name]
        group = parser.add_argument_group(name, (cls.__doc__ or "").split("\n")[0])
        for field in dataclasses.fields(cls):
            flags = [f"--{field.name}"]
            if field.metadata["short"]:
                flags.insert(0, f"-{field.metadata['short']}")
            group.add_argument(
                *flags, default=argparse.SUPPRESS, help=_help(field), **_argument_kind(field)
            )


def _help(field: dataclasses.Field[Any]) -> str:
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    return f"{field.metadata['help']} (default: {default!r})".replace("%", "%%")


def _argument_kind(field: dataclasses.Field[Any]) -> dict[str, Any]:
    kind = FIELD_TYPE[field.name]
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if kind == list[int]:
        return {"type": int, "nargs": "+"}
    choices = field.metadata["choices"]
    return {"type": kind, **({"choices": choices} if choices else {})}


def parse_command_line(
    parser: argparse.ArgumentParser, arguments: list[str] | None = None
) -> dict[str, Any]:
    """What was typed, as {option: value}. `model_paths` style extras stay in the dict."""
    return vars(parser.parse_args(arguments))


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Settings of a JSON file, flat or grouped as in `config.json`; unknown keys are errors."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise FormatError(f"{path}: expected a JSON object of settings")
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if key in GROUPS and isinstance(value, dict):
            flat.update(value)
        elif key not in ("format", "versions"):
            flat[key] = value
    unknown = sorted(set(flat) - set(FIELD_GROUP))
    if unknown:
        raise UserError(f"{path}: unknown keys {unknown}")
    return {key: _checked(path, key, value) for key, value in flat.items()}


def _checked(path: str | Path, key: str, value: Any) -> Any:
    kind = FIELD_TYPE[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == list[int]:
        good = isinstance(value, list) and all(type(item) is int for item in value)
    else:
        good = type(value) is kind
    if not good:
        name = getattr(kind, "__name__", str(kind))
        raise UserError(f"{path}: {key} must be {name}, got {value!r}")
    return value


def resolve(*layers: dict[str, Any]) -> RunConfig:
    """Merge layers, later ones winning, over the defaults of the preset that they name."""
    typed: dict[str, Any] = {}
    for layer in layers:
        typed.update({k: v for k, v in layer.items() if k in FIELD_GROUP})
    preset = typed.get("preset", _default("preset"))
    if preset not in PRESETS:
        raise UserError(f"--preset must be one of {sorted(PRESETS)}, got {preset!r}")
    merged = _scaled_to_length({**PRESETS[preset]}, typed)
    merged.update(typed)
    values: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for key, value in merged.items():
        choices = _field(key).metadata["choices"]
        if choices and value not in choices:
            raise UserError(f"--{key} must be one of {list(choices)}, got {value!r}")
        values[FIELD_GROUP[key]][key] = value
    return RunConfig(**{name: cls(**values[name]) for name, cls in GROUPS.items()})


def _scaled_to_length(preset: dict[str, Any], typed: dict[str, Any]) -> dict[str, Any]:
    """A short preset's schedule keeps its shape when the run is made longer or shorter."""
    if "iterations" not in preset or "iterations" not in typed:
        return preset
    ratio = typed["iterations"] / preset["iterations"]
    for key in ("sh_interval", "normal_from_iter", "densify_until_iter"):
        preset[key] = max(1, round(preset[key] * ratio))
    return preset


def _field(name: str) -> dataclasses.Field[Any]:
    return next(f for f in dataclasses.fields(GROUPS[FIELD_GROUP[name]]) if f.name == name)


def _default(name: str) -> Any:
    return _field(name).default


def config_to_json(config: RunConfig) -> dict[str, Any]:
    """The grouped form that `config.json` holds."""
    return dataclasses.asdict(config)
