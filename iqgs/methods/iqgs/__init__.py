# SPDX-License-Identifier: Apache-2.0
"""IQGS, the paper's method: decoder, matchers, losses, criterion."""
