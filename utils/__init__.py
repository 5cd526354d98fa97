# SPDX-License-Identifier: Apache-2.0
"""Leaves of the house: each file does one small job and knows no scene."""
