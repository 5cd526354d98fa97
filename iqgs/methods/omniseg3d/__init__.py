# SPDX-License-Identifier: Apache-2.0
"""OmniSeg3D: hierarchical contrastive features of splats (Ying et al., CVPR 2024)."""
