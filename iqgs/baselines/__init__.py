# SPDX-License-Identifier: Apache-2.0
"""Methods to compare with; each is one file behind the same protocol."""
