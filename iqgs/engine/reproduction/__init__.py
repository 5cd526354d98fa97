# SPDX-License-Identifier: Apache-2.0
"""Tables of the paper: cells that are run by the project's own commands, and their aggregation."""
