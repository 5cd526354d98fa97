# SPDX-License-Identifier: Apache-2.0
"""Looking at labelled splats: a page of one file for a browser, and a live server. Knows no run."""
