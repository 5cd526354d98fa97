# SPDX-License-Identifier: Apache-2.0
"""Tools that make a scene ready for training."""
