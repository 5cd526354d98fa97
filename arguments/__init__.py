# SPDX-License-Identifier: Apache-2.0
"""Settings: frozen dataclasses, presets, and the one rule by which layers merge."""

from arguments.groups import (
    GROUPS,
    ModelParams,
    OptimizationParams,
    PipelineParams,
    RunConfig,
    SegmentationParams,
    TrainParams,
)
from arguments.options import (
    OneLineParser,
    add_options,
    option,
    parse_record,
    require,
    require_at_least,
)
from arguments.parser import (
    add_groups,
    config_to_json,
    harmless_settings,
    method_name,
    presets_of,
    read_config_file,
    resolve,
    run_groups,
)

__all__ = [
    "GROUPS",
    "ModelParams",
    "OneLineParser",
    "OptimizationParams",
    "PipelineParams",
    "RunConfig",
    "SegmentationParams",
    "TrainParams",
    "add_groups",
    "add_options",
    "config_to_json",
    "harmless_settings",
    "method_name",
    "option",
    "parse_record",
    "presets_of",
    "read_config_file",
    "require",
    "require_at_least",
    "resolve",
    "run_groups",
]
