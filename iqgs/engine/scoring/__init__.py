# SPDX-License-Identifier: Apache-2.0
"""From a run to its scores."""
