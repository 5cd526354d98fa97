# SPDX-License-Identifier: Apache-2.0
"""One rule decides which setting wins, and a wrong one is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from arguments import (
    OneLineParser,
    add_groups,
    config_to_json,
    parse_command_line,
    read_config_file,
    resolve,
)
from arguments.groups import GROUPS
from arguments.presets import PRESETS
from utils.errors import FormatError, UserError


def typed(*arguments: str) -> dict[str, object]:
    parser = OneLineParser(prog="train.py")
    add_groups(parser)
    return parse_command_line(parser, list(arguments))


def test_only_what_was_typed_enters_a_layer() -> None:
    assert typed("-s", "scene", "--eval") == {"source_path": "scene", "eval": True}


def test_command_line_wins_over_file_wins_over_preset_wins_over_defaults() -> None:
    from_file = {"preset": "default", "iterations": 10, "eval": True, "seed": 3}
    config = resolve(from_file, typed("--no-eval", "--iterations", "7"))
    assert config.optimization.iterations == 7
    assert config.model.eval is False
    assert config.train.seed == 3
    assert config.optimization.opacity_cull == PRESETS["default"]["opacity_cull"]
    assert config.optimization.feature_lr == GROUPS["optimization"]().feature_lr


def test_paper_preset_is_the_papers_configuration() -> None:
    config = resolve({"preset": "paper"})
    assert config.optimization.iterations == config.segmentation.instance_iterations == 30_000
    assert (config.segmentation.num_queries, config.segmentation.feature_dim) == (300, 16)
    assert (config.segmentation.lr_iqgs, config.segmentation.lr_instance) == (5e-4, 2.5e-3)
    weights = config.segmentation
    assert (weights.lambda_mask, weights.lambda_dice, weights.lambda_reg, weights.lambda_geom) == (
        20,
        1,
        1,
        1,
    )
    assert resolve({"preset": "paper-literal"}).segmentation.lr_instance == 5e-4


def test_a_short_presets_schedule_scales_with_its_length() -> None:
    short = resolve(typed("--iterations", "300")).optimization
    full = resolve({}).optimization
    assert short.densify_until_iter / 300 == pytest.approx(
        full.densify_until_iter / full.iterations, abs=0.01
    )
    kept = resolve(typed("--iterations", "300", "--densify_until_iter", "50")).optimization
    assert kept.densify_until_iter == 50


@pytest.mark.parametrize(
    "layer",
    [
        {"iterations": 0},
        {"matching": "guess"},
        {"sh_degree": 4},
        {"preset": "fast"},
        {"lambda_mask": -1.0},
        {"focal_alpha": 2.0},
        {"depth_ratio": 1.5},
        {"cache_path": "folder", "cache_gb": 0.0},
    ],
)
def test_values_out_of_range_name_their_flag(layer: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(layer))):
        resolve(layer)


@pytest.mark.parametrize(
    "arguments",
    [["--iteration", "3"], ["--iterations", "many"], ["--matching", "guess"], ["--no-such-flag"]],
)
def test_a_wrong_command_line_is_one_sentence(arguments: list[str]) -> None:
    with pytest.raises(UserError):
        typed(*arguments)


def test_config_file_refuses_unknown_keys_and_wrong_types(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"optimization": {"iteration": 3}}))
    with pytest.raises(UserError, match=r"unknown keys \['iteration'\]"):
        read_config_file(path)
    for value in ("10", True, 1.5, None):
        path.write_text(json.dumps({"iterations": value}))
        with pytest.raises(UserError, match="iterations must be int"):
            read_config_file(path)
    path.write_text("{")
    with pytest.raises(FormatError, match="not JSON"):
        read_config_file(path)


def test_a_saved_run_resolves_to_itself(tmp_path: Path) -> None:
    config = resolve(
        typed(
            "--preset",
            "paper",
            "--iterations",
            "123",
            "--seed",
            "5",
            "--test_iterations",
            "1",
            "2",
            "-w",
        )
    )
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"format": 1, **config_to_json(config), "versions": {}}))
    assert resolve(read_config_file(path)) == config


def test_every_field_has_help_and_no_name_occurs_twice() -> None:
    names = [field.name for cls in GROUPS.values() for field in dataclasses.fields(cls)]
    assert len(names) == len(set(names))
    for preset in PRESETS.values():
        assert set(preset) <= set(names)


def test_flattening_needs_the_splats_to_flatten() -> None:
    with pytest.raises(UserError, match="--flatten_ply must be given together with --start_ply"):
        resolve({}, typed("--flatten_ply"))
    config = resolve({}, typed("--flatten_ply", "--start_ply", "a.ply"))
    assert config.train.flatten_ply and config.train.start_ply == "a.ply"
