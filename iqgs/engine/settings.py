# SPDX-License-Identifier: Apache-2.0
"""Where the settings of a run come from: the command line, a file, an older run."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arguments import (
    GROUPS,
    OneLineParser,
    RunConfig,
    add_groups,
    method_name,
    presets_of,
    read_config_file,
    resolve,
    run_groups,
)
from arguments.options import options_of
from iqgs.engine.checkpoint import read_training
from iqgs.methods import METHODS
from scene.dataset import Scene, load_scene
from scene.frame import SceneFrame
from utils.cfg_args import parse_cfg_args
from utils.errors import UserError

logger = logging.getLogger(__name__)

ONE_TIME = ("start_checkpoint", "resume", "overwrite", "config_file")  # not taken from an older run


def resolve_run(*layers: Mapping[str, Any]) -> RunConfig:
    """Settings out of layers, later ones winning; see `arguments.resolve`."""
    return resolve(*layers, methods=METHODS)


def parse_training_arguments(about: str, arguments: list[str] | None = None) -> RunConfig:
    """The settings that a command line of `train.py` asks for. A wrong one is a `UserError`.

    The flags are the common ones and those of the method that is asked for.
    """
    early = OneLineParser(prog="train.py", add_help=False)
    for flag in ("--method", "--matching", "--config_file", "--start_checkpoint", "--resume"):
        early.add_argument(flag)
    early.add_argument("-m", "--model_path")
    asked = {k: v for k, v in vars(early.parse_known_args(arguments)[0]).items() if v is not None}
    layers = [going_on_settings(asked)]
    if asked.get("config_file"):
        layers.append(read_config_file(asked["config_file"], METHODS))
    names = [method_name(layer, METHODS) for layer in (*layers, asked)]
    chosen = next((name for name in reversed(names) if name), "iqgs")
    typed = _parse(about, chosen, arguments)
    return resolve_run(*layers, typed)


def _parse(about: str, method: str, arguments: list[str] | None) -> dict[str, Any]:
    """What was typed, as {option: value}, with the flags of this method."""
    listed = "\n".join(f"  {name:20} {entry.summary}" for name, entry in METHODS.items())
    inert = [
        f"--{field.name}"
        for record in GROUPS.values()
        for field in options_of(record)
        if field.metadata["inert"]
    ]
    parser = OneLineParser(
        prog="train.py",
        description=about,
        formatter_class=_WordsAndLines,
        epilog=f"methods (--method NAME --help shows the flags of each):\n{listed}\n\n"
        f"accepted for compatibility, without effect: {', '.join(inert)}",
    )
    add_groups(parser, run_groups(METHODS[method]), presets_of(METHODS[method]))
    typed, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown(unknown, method))
    return vars(typed)


class _WordsAndLines(argparse.HelpFormatter):
    """Keeps the lines of the epilog."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())


def _unknown(words: list[str], method: str) -> str:
    """The sentence about words that no flag takes; names the method that a flag belongs to."""
    for word in words:
        flag = word.split("=")[0].lstrip("-").removeprefix("no-")
        owners = [
            name
            for name, entry in METHODS.items()
            if any(field.name == flag for field in options_of(entry.params))
        ]
        if word.startswith("--") and owners:
            return f"--{flag} belongs to --method {' or '.join(owners)}, this is {method}"
    return f"unrecognized arguments: {' '.join(words)}"


def going_on_settings(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the run that the command line goes on from; none for a new run."""
    if asked.get("start_checkpoint"):
        groups = read_training(Path(asked["start_checkpoint"]))["config"]
        settings = {key: value for values in groups.values() for key, value in values.items()}
    else:
        folder = Path(asked.get("model_path", ""))
        if not asked.get("resume") or not (folder / "config.json").exists():
            return {}
        settings = read_config_file(folder / "config.json", METHODS)
    return {key: value for key, value in settings.items() if key not in ONE_TIME}


def saved_settings(folder: Path) -> dict[str, Any]:
    """Settings of a run: config.json, or cfg_args of a run of 2DGS or Gaussian Grouping."""
    if (folder / "config.json").exists():
        return read_config_file(folder / "config.json", METHODS)
    if (folder / "cfg_args").exists():
        names = {field.name for field in options_of(GROUPS["model"])}
        text = (folder / "cfg_args").read_text(encoding="utf-8", errors="replace")
        values = parse_cfg_args(text)
        foreign = sorted(set(values) - names)
        logger.info("%s/cfg_args: settings without meaning here: %s", folder, foreign)
        return {
            key: value for key, value in values.items() if key in names and value is not None
        } | {"preset": "2dgs"}
    raise UserError(f"{folder} holds no run (no config.json); check -m")


def scene_of(config: RunConfig, frame: SceneFrame | None = None) -> Scene:
    """Read the scene that the settings name; for a run that was begun before, in its `frame`."""
    return load_scene(config.model, seed=config.train.seed, frame=frame)
