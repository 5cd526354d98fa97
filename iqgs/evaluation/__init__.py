# SPDX-License-Identifier: Apache-2.0
"""What a segmentation is worth: label maps in, tables of scores out. Knows no run."""
