# SPDX-License-Identifier: Apache-2.0
"""How published benchmarks lay out their ground truth."""
