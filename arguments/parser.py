# SPDX-License-Identifier: Apache-2.0
"""Settings from layers: field defaults < preset < file or saved run < command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from arguments.groups import GROUPS, RunConfig
from arguments.options import add_options, default_of, options_of, types_of
from arguments.presets import OF_PRIMITIVE, OF_RULE, PRESETS
from utils.errors import FormatError, UserError

MATCHINGS = {"id": "iqgs", "hungarian": "iqgs-h"}  # what --matching means


class MethodSettings(Protocol):
    """What the settings of a run need to know of a method."""

    @property
    def params(self) -> type:
        """The frozen dataclass of the method's own options."""

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """What each preset changes of them."""


Methods = Mapping[str, MethodSettings]


def run_groups(method: MethodSettings) -> dict[str, type]:
    """All groups of a run of this method, in the order of `RunConfig`."""
    names = [field.name for field in dataclasses.fields(RunConfig)]
    return {name: GROUPS.get(name, method.params) for name in names}


def presets_of(method: MethodSettings) -> dict[str, dict[str, Any]]:
    """Every preset with the method's own part."""
    return {name: {**shared, **method.presets.get(name, {})} for name, shared in PRESETS.items()}


def add_groups(
    parser: argparse.ArgumentParser,
    groups: Mapping[str, type],
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Add the options of these groups; nothing that was not typed enters the namespace."""
    for name, record in groups.items():
        title = (record.__doc__ or "").split("\n")[0]
        add_options(parser.add_argument_group(name, title), record, presets)


def read_config_file(path: str | Path, methods: Methods) -> dict[str, Any]:
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
        if key in (*GROUPS, "method") and isinstance(value, dict):
            flat.update(value)
        elif key not in ("format", "versions"):
            flat[key] = value
    kinds = _all_types(methods)
    unknown = sorted(set(flat) - set(kinds))
    if unknown:
        raise UserError(f"{path}: unknown keys {unknown}")
    return {key: _checked(path, key, value, kinds[key]) for key, value in flat.items()}


def _all_types(methods: Methods) -> dict[str, Any]:
    """Types of the settings of all groups and all methods, by name."""
    records = [*GROUPS.values(), *(entry.params for entry in methods.values())]
    kinds: dict[str, Any] = {}
    for record in records:
        kinds.update(types_of(record))
    return kinds


def _checked(path: str | Path, key: str, value: Any, kind: Any) -> Any:
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


def method_name(layer: Mapping[str, Any], methods: Methods) -> str | None:
    """The method that a layer of settings asks for, by its name or by --matching; None: none."""
    name, matching = layer.get("method"), layer.get("matching") or ""
    alias = MATCHINGS.get(matching)
    if matching and alias is None:
        raise UserError(f"--matching must be one of {', '.join(MATCHINGS)}, got {matching!r}")
    if name is not None and name not in methods:
        raise UserError(f"--method must be one of {', '.join(methods)}, got {name!r}")
    if name and alias and name != alias:
        raise UserError(f"--matching {matching} is --method {alias}, not {name}")
    return name or alias


def resolve(*layers: Mapping[str, Any], methods: Methods) -> RunConfig:
    """Merge layers, later ones winning, over the defaults of the preset that they name.

    Settings of other methods than the chosen one are left aside. Raises UserError.
    """
    chosen = default_of(_field(GROUPS["segmentation"], "method"))
    for layer in layers:
        chosen = method_name(layer, methods) or chosen
    groups = run_groups(methods[chosen])
    homes = {field.name: name for name, cls in groups.items() for field in options_of(cls)}
    given: dict[str, Any] = {}
    for layer in layers:
        given.update({key: value for key, value in layer.items() if key in homes})
    given.update(method=chosen, matching="")
    preset = given.get("preset", default_of(_field(GROUPS["train"], "preset")))
    if preset not in PRESETS:
        raise UserError(f"--preset must be one of {sorted(PRESETS)}, got {preset!r}")
    of_primitive = OF_PRIMITIVE.get(given.get("primitive", ""), {})
    shared = _scaled_to_length(presets_of(methods[chosen])[preset], given)
    of_rule = OF_RULE.get(given.get("densify_rule", shared.get("densify_rule", "")), {})
    merged = {**shared, **of_primitive, **of_rule, **given}
    values: dict[str, dict[str, Any]] = {name: {} for name in groups}
    for key, value in merged.items():
        choices = _field(groups[homes[key]], key).metadata["choices"]
        if choices and value not in choices:
            raise UserError(f"--{key} must be one of {list(choices)}, got {value!r}")
        values[homes[key]][key] = value
    return RunConfig(**{name: cls(**values[name]) for name, cls in groups.items()})


def _scaled_to_length(preset: dict[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """A short preset's schedule keeps its shape when the run is made longer or shorter."""
    if "iterations" not in preset or "iterations" not in typed:
        return preset
    ratio = typed["iterations"] / preset["iterations"]
    for key in ("sh_interval", "normal_from_iter", "densify_until_iter"):
        preset[key] = max(1, round(preset[key] * ratio))
    return preset


def _field(record: type, name: str) -> dataclasses.Field[Any]:
    return next(field for field in options_of(record) if field.name == name)


def config_to_json(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The grouped form that `config.json` holds."""
    return dataclasses.asdict(config)


def harmless_settings(config: RunConfig) -> set[str]:
    """Names of the settings that a run may change when it goes on."""
    records = [getattr(config, field.name) for field in dataclasses.fields(config)]
    return {
        field.name
        for record in records
        for field in options_of(type(record))
        if field.metadata["harmless"]
    }
