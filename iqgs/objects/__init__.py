# SPDX-License-Identifier: Apache-2.0
"""The objects of labelled splats: listed, chosen, edited, cleaned. Knows no run and no files."""
