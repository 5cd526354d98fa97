# SPDX-License-Identifier: Apache-2.0
"""How the repository becomes one installed package; not installed itself.

In the repository `utils`, `scene`, `arguments` and `gaussian_renderer` lie at the root, as the
family has them. Installed under these names they would hide the folders of other projects, so a
wheel holds all of them, and the rasterizer, below `iqgs`, with the imports rewritten.
"""
