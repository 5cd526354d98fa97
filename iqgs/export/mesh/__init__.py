# SPDX-License-Identifier: Apache-2.0
"""Surfaces from depth images: fused, cleaned, coloured, told apart by object, and written."""
