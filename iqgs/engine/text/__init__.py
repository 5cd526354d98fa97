# SPDX-License-Identifier: Apache-2.0
"""Texts and the objects of a run."""
