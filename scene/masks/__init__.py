# SPDX-License-Identifier: Apache-2.0
"""Instance masks: records in memory, the files that they come from, and the numbering of ids.

A mask file is an id map: 0 = no instance, any other value = one instance, the same in all views.
"""

from scene.masks.files import MAX_ASPECT_ERROR, check_mask_shape, find_mask_files, read_masks
from scene.masks.ids import IdTable, build_id_table, read_label_names
from scene.masks.orientation import note_turned_masks
from scene.masks.records import InstanceMasks, present_ids

__all__ = [
    "MAX_ASPECT_ERROR",
    "IdTable",
    "InstanceMasks",
    "build_id_table",
    "check_mask_shape",
    "find_mask_files",
    "note_turned_masks",
    "present_ids",
    "read_label_names",
    "read_masks",
]
