# SPDX-License-Identifier: Apache-2.0
"""The loops and the files of a run."""
