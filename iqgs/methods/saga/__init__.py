# SPDX-License-Identifier: Apache-2.0
"""SAGA: contrastive features of splats, gated by scale (Cen et al., AAAI 2025)."""
