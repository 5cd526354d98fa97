# SPDX-License-Identifier: Apache-2.0
"""The report of evaluated runs: one HTML page with everything in it."""
