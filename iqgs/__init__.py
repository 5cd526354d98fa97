# SPDX-License-Identifier: Apache-2.0
"""IQGS: instances of a scene of 2D Gaussian splats, decoded by queries."""
