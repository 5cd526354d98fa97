# SPDX-License-Identifier: Apache-2.0
"""The numbers that every backend must share; `csrc/common/constants.h` mirrors them (tested)."""

from __future__ import annotations

# One step of an 8-bit image: a fainter splat is skipped. Equivalent to rho <= 2 ln(255 o).
SUPPORT_ALPHA = 1.0 / 255.0
# A pixel is finished before the splat that would push its transmittance below this.
STOP_TRANSMITTANCE = 1e-4
# Keeps 1 - alpha invertible in the backward pass; the gradient is zero where it bites.
MAX_ALPHA = 0.99
# The screen-space low-pass is a Gaussian of variance 1/2 px^2: rho2 = 2 d^2.
LOW_PASS_PRECISION = 2.0
# The median depth belongs to the last splat reached while T is above this.
MEDIAN_TRANSMITTANCE = 0.5
# Ellipsoids (3DGS): variance added to both axes of a splat on screen, px^2, so that none falls
# between pixels.
SCREEN_DILATION = 0.3
# Ellipsoids: the perspective is linearised no farther outside the image than this share of half its
# width and height; beyond, its slope would blow splats up that nobody sees.
RATIO_MARGIN = 0.3
# Radii and the 2DGS-compatible anchor use the box of the 3 sigma ellipse, whatever the opacity.
BOX_SIGMAS = 3.0
# 3 sigma of the low-pass: no splat is reported smaller.
MIN_RADIUS = 2.1213203435596424
# A splat whose plane contains the camera centre has no area and an undefined intersection. Below
# this |cos| of the viewing angle the float32 rounding of n.p exceeds a percent of it, so the splat
# is dropped. What is lost is a line thinner than a hundredth of a pixel.
EDGE_ON_COSINE = 1e-5
# A ray is parallel to the splat's plane when the ratio (depth of centre) / (depth of intersection)
# goes to zero, and meets it behind the camera when negative. Below this ratio there is no hit:
# a depth of more than 10^4 centre depths can only come from the low-pass disc and says nothing.
PARALLEL_RATIO = 1e-4
# Sums of weights by label are whole numbers of this many parts of a weight of one: whole numbers
# add up to the same bits in any order. An int64 holds 8.6e9 pixels that are covered in full.
LABEL_WEIGHT_PARTS = 1073741824.0
