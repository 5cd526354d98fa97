# SPDX-License-Identifier: Apache-2.0
"""SA3D on splats: masks of prompted segmenters are put into the splats view by view (Cen et al.,
NeurIPS 2023), for every object of the scene at once."""
