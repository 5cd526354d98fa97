# SPDX-License-Identifier: Apache-2.0
"""Other programs' folders, read into cameras, photographs and points."""
