# SPDX-License-Identifier: Apache-2.0
"""Cameras, views, masks, splats, and the readers that make them."""
