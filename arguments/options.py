# SPDX-License-Identifier: Apache-2.0
"""A setting: a field of a frozen dataclass that is also an option of the command line.

A field's metadata holds what argparse needs, and what a run that goes on may change.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from utils.errors import UserError

OptionField = dataclasses.Field[Any]


def option(
    default: Any,
    help: str,
    *,
    short: str = "",
    choices: tuple[str, ...] = (),
    harmless: bool = False,
    inert: bool = False,
    bare: str = "",
) -> Any:
    """A dataclass field that is also a command-line option.

    `bare`: the value of a flag that is given without one.

    `harmless`: a run may go on with another value, no step of it changes. `inert`: accepted for
    compatibility with programs of the family, never read.
    """
    metadata = {
        "help": help,
        "short": short,
        "choices": choices,
        "harmless": harmless or inert,
        "inert": inert,
        "bare": bare,
    }
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def require(ok: bool, flag: str, value: object, rule: str) -> None:
    """Raise a `UserError` that names the flag unless `ok`."""
    if not ok:
        raise UserError(f"--{flag} must be {rule}, got {value!r}")


def require_at_least(record: object, low: float, *names: str) -> None:
    """Raise a `UserError` that names the first of these fields that is below `low`."""
    rule = "0 or positive" if low == 0 else f"at least {low}"
    for name in names:
        value = getattr(record, name)
        require(value >= low, name, value, rule)


def options_of(record: type) -> tuple[OptionField, ...]:
    """The fields of a record that are options."""
    return tuple(field for field in dataclasses.fields(record) if "help" in field.metadata)


def default_of(field: OptionField) -> Any:
    """The value of a field that nobody set."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def types_of(record: type) -> dict[str, Any]:
    """The types of a record's fields, resolved."""
    return typing.get_type_hints(record)


class OneLineParser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are one sentence, raised as `UserError`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def add_options(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    record: type,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    leave_out: Iterable[str] = (),
) -> None:
    """One flag per option of a record; what was not typed does not enter the namespace.

    The help of each says its default or, where `presets` differ, the default of each of them;
    it is silent about options that do nothing.
    """
    kinds, left_out = types_of(record), set(leave_out)
    for field in options_of(record):
        if field.name in left_out:
            continue
        flags = [f"--{field.name}"]
        if field.metadata["short"]:
            flags.insert(0, f"-{field.metadata['short']}")
        text = f"{field.metadata['help']} ({_defaults(field, presets or {})})".replace("%", "%%")
        parser.add_argument(
            *flags,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS if field.metadata["inert"] else text,
            **_argument_kind(field, kinds[field.name]),
        )


def _defaults(field: OptionField, presets: Mapping[str, Mapping[str, Any]]) -> str:
    """The default in words: one value, or that of each preset where they differ."""
    own = default_of(field)
    values = {name: preset.get(field.name, own) for name, preset in presets.items()} or {"": own}
    different: dict[str, list[str]] = {}
    for name, value in values.items():
        different.setdefault(repr(value), []).append(name)
    if len(different) == 1:
        return f"default: {next(iter(different))}"
    return "; ".join(f"{', '.join(names)}: {value}" for value, names in different.items())


def _argument_kind(field: OptionField, kind: Any) -> dict[str, Any]:
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if kind == list[int]:
        return {"type": int, "nargs": "+"}
    if kind == tuple[str, ...]:
        return {"nargs": "+"}
    if field.metadata["bare"]:
        return {"nargs": "?", "const": field.metadata["bare"]}
    choices = field.metadata["choices"]
    return {"type": kind, **({"choices": choices} if choices else {})}


def parse_typed(
    parser: argparse.ArgumentParser, arguments: list[str] | None = None
) -> dict[str, Any]:
    """What was typed, as {option: value}; several words become a tuple."""
    typed = vars(parser.parse_args(arguments))
    return {
        key: tuple(value) if isinstance(value, list) and _words(value) else value
        for key, value in typed.items()
    }


def _words(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def parse_record(
    parser: argparse.ArgumentParser, record: type, arguments: list[str] | None = None
) -> Any:
    """Parse a command line whose flags are the options of one record."""
    add_options(parser, record)
    return record(**parse_typed(parser, arguments))
