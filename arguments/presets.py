# SPDX-License-Identifier: Apache-2.0
"""Named layers of settings over the field defaults, which are those of `2dgs` and `paper`.

Here stand the settings that all methods share; a method's entry has those of its own.

`default` is the best recipe that is still IQGS, for runs of some thousand steps; the README's
table says what each of its differences from `paper` is worth.
"""

from __future__ import annotations

from typing import Any

# Reconstruction in thousands of steps: rates scale with the run's length, splats grow to a cap,
# nothing is reset, and faint splats go at 0.02 (at 0.05 most of the first points die).
SHORT_RECONSTRUCTION: dict[str, Any] = {
    "iterations": 3000,
    "lr_scale": 0.0,
    "lr_final": 0.1,
    "position_lr_max_steps": 0,
    "sh_degree": 1,
    "sh_interval": 900,
    "lambda_normal": 0.02,
    "normal_from_iter": 1500,
    "densify_rule": "budget",
    "densify_from_iter": 100,
    "densify_until_iter": 1800,
    "opacity_cull": 0.02,
    "opacity_reset_interval": 0,
    "background_seeds": -1,
}

# Instances in some thousand steps: ten times the paper's rates, falling by a cosine.
SHORT_INSTANCES: dict[str, Any] = {
    "repair_masks": "auto",
    "instance_iterations": 1500,
    "lr_instance": 0.03,
    "lr_iqgs": 0.005,
    "lr_iqgs_final": 0.05,
    "pixels_per_step": 2048,
    "splat_labels": "views",
}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {**SHORT_RECONSTRUCTION, **SHORT_INSTANCES},
    "paper": {},
    "paper-literal": {"lr_instance": 0.0005},
    "2dgs": {},
}

# What a primitive changes of every preset: ellipsoids have no normal term.
OF_PRIMITIVE: dict[str, dict[str, Any]] = {"3dgs": {"lambda_normal": 0.0}}

# What a rule of densification changes of every preset: relocation needs splats that become
# transparent, and takes those whose opacity is below what 3DGS-MCMC calls dead.
OF_RULE: dict[str, dict[str, Any]] = {
    "relocation": {
        "opacity_reg": 0.01,
        "scale_reg": 0.01,
        "opacity_cull": 0.005,
        "opacity_reset_interval": 0,
    }
}
