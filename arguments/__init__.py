# SPDX-License-Identifier: Apache-2.0
"""Settings: frozen dataclasses, presets, and the one rule by which layers merge."""

from arguments.groups import (
    ModelParams,
    OptimizationParams,
    PipelineParams,
    RunConfig,
    SegmentationParams,
    TrainParams,
)
from arguments.parser import (
    OneLineParser,
    add_groups,
    config_to_json,
    parse_command_line,
    read_config_file,
    resolve,
)

__all__ = [
    "ModelParams",
    "OneLineParser",
    "OptimizationParams",
    "PipelineParams",
    "RunConfig",
    "SegmentationParams",
    "TrainParams",
    "add_groups",
    "config_to_json",
    "parse_command_line",
    "read_config_file",
    "resolve",
]
