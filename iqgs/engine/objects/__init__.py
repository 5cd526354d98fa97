# SPDX-License-Identifier: Apache-2.0
"""Objects of a run: opened, listed, edited and written as files."""
