# SPDX-License-Identifier: Apache-2.0
"""What setup.py decides and does; not installed. Decisions are functions of facts, so that tests
can try every situation on a machine that has none of it.
"""
