# SPDX-License-Identifier: Apache-2.0
"""Where the meaning of texts comes from: masks of a text in a view, or scores of crops."""
