# SPDX-License-Identifier: Apache-2.0
"""The embedded data set: a furnished room, ray-cast with exact images, depths and masks."""
