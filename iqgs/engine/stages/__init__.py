# SPDX-License-Identifier: Apache-2.0
"""The stages of training: each gives a loss and takes an update."""
