# SPDX-License-Identifier: Apache-2.0
"""Splats as files: the columns of their dialects."""
