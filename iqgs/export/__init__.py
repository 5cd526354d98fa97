# SPDX-License-Identifier: Apache-2.0
"""Files for other programs: splats with their objects as PLY, glTF and OpenUSD, and meshes."""
