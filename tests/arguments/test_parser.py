# SPDX-License-Identifier: Apache-2.0
"""One rule decides which setting wins, and a wrong one is named."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from arguments import GROUPS, OneLineParser, RunConfig, add_groups, config_to_json, run_groups
from arguments.options import options_of, parse_typed
from arguments.parser import presets_of
from arguments.parser import read_config_file as read_file
from arguments.presets import PRESETS
from iqgs.engine.settings import parse_training_arguments, resolve_run
from iqgs.methods import METHODS
from utils.errors import FormatError, UserError


def typed(*arguments: str, method: str = "iqgs") -> dict[str, object]:
    parser = OneLineParser(prog="train.py")
    add_groups(parser, run_groups(METHODS[method]))
    return parse_typed(parser, list(arguments))


def resolve(*layers: dict[str, object]) -> RunConfig:
    return resolve_run(*layers)


def read_config_file(path: Path) -> dict[str, object]:
    return read_file(path, METHODS)


def parsed(*arguments: str) -> RunConfig:
    return parse_training_arguments("", list(arguments))


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
    assert (config.method.num_queries, config.method.feature_dim) == (300, 16)
    assert (config.segmentation.lr_iqgs, config.segmentation.lr_instance) == (5e-4, 2.5e-3)
    weights = config.method
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


@pytest.mark.fault(row=46)
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
    for entry in METHODS.values():
        records = run_groups(entry).values()
        names = [field.name for cls in records for field in dataclasses.fields(cls)]
        assert len(names) == len(set(names))
        assert names == [field.name for cls in records for field in options_of(cls)]
        for preset in presets_of(entry).values():
            assert set(preset) <= set(names)
        assert set(entry.presets) <= set(PRESETS)


def test_a_method_brings_its_own_flags_and_presets() -> None:
    plain, hungarian = parsed("-s", "x"), parsed("-s", "x", "--method", "iqgs-h")
    assert not hasattr(plain.method, "usage_cost")
    assert (hungarian.method.usage_cost, hungarian.method.steady_matching) == (0.3, True)
    assert parsed("-s", "x", "--method", "iqgs-h", "--preset", "paper").method.usage_cost == 0.0
    assert parsed("-s", "x", "--matching", "hungarian") == hungarian
    assert parsed("-s", "x", "--matching", "id") == plain
    assert dataclasses.fields(parsed("-s", "x", "--method", "vote").method) == ()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--usage_cost", "1"], "--usage_cost belongs to --method iqgs-h, this is iqgs"),
        (["--method", "vote", "--lambda_mask", "1"], "--lambda_mask belongs to --method iqgs or"),
        (["--method", "best"], "--method must be one of iqgs, iqgs-h, "),
        (
            ["--method", "iqgs", "--matching", "hungarian"],
            "hungarian is --method iqgs-h",
        ),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_flags_of_other_methods_are_named(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        parsed("-s", "x", *words)


def test_settings_of_a_run_before_methods_had_names(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    old = {"matching": "hungarian", "num_queries": 41, "usage_cost": 0.5, "lr_iqgs": 0.01}
    path.write_text(json.dumps({"format": 1, "segmentation": old, "train": {"preset": "paper"}}))
    config = resolve(read_config_file(path))
    assert config.segmentation.method == "iqgs-h"
    assert (config.method.num_queries, config.method.usage_cost) == (41, 0.5)
    assert config.segmentation.lr_iqgs == 0.01


def test_help_says_the_defaults_of_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    words = " ".join(capsys.readouterr().out.split())
    assert "(default: 3000; paper, paper-literal, 2dgs: 30000)" in words
    assert "steps between densifications (default: 100)" in words
    assert "iqgs-h ids may be fresh in each view" in words


def test_ellipsoids_have_no_normal_term() -> None:
    assert resolve({}, typed()).optimization.lambda_normal == 0.02
    config = resolve({}, typed("--primitive", "3dgs"))
    assert (config.pipeline.primitive, config.optimization.lambda_normal) == ("3dgs", 0.0)
    assert resolve({}, typed("--primitive", "3dgs", "--preset", "2dgs")) != config
    with pytest.raises(UserError, match="--lambda_normal must be 0 with --primitive 3dgs"):
        resolve({}, typed("--primitive", "3dgs", "--lambda_normal", "0.05"))
    with pytest.raises(UserError, match="--flatten_ply must be left out with --primitive 3dgs"):
        resolve({}, typed("--primitive", "3dgs", "--start_ply", "a.ply", "--flatten_ply"))
    with pytest.raises(UserError, match="--primitive must be one of"):
        resolve({"primitive": "4dgs"})


def test_flattening_needs_the_splats_to_flatten() -> None:
    with pytest.raises(UserError, match="--flatten_ply must be given together with --start_ply"):
        resolve({}, typed("--flatten_ply"))
    config = resolve({}, typed("--flatten_ply", "--start_ply", "a.ply"))
    assert config.train.flatten_ply and config.train.start_ply == "a.ply"
