# SPDX-License-Identifier: Apache-2.0
"""Blending weights of frozen splats, kept from step to step."""
