# SPDX-License-Identifier: Apache-2.0
"""Masks of all views made to agree, for a run that learns from them or for files of their own."""
