# SPDX-License-Identifier: Apache-2.0
"""Instance masks: records in memory, the files that they come from, and the numbering of ids.

What one file holds is `formats`; what the record beside a folder says `about`; which file belongs
to which image `files`; how numbers become the compact ids of a run `ids`; what can be wrong
`findings` and `check`; all of it for a whole scene `collection`. In a label map 0 is no instance
and -1 is no target: such pixels enter no loss and no score.
"""

from scene.masks.about import labels_file, read_about, write_about
from scene.masks.collection import (
    MaskCollection,
    MaskRequest,
    collect_masks,
    numbering_problem,
)
from scene.masks.files import MaskFiles, match_mask_files
from scene.masks.findings import (
    KINDS,
    MAX_ASPECT_ERROR,
    Finding,
    refuse_errors,
    shape_finding,
)
from scene.masks.formats import FORMATS, MaskContent, read_mask_file
from scene.masks.ids import IdTable, read_label_names
from scene.masks.patches import MaskPatches
from scene.masks.reading import ReadMask, read_label_map, read_layers, read_masks
from scene.masks.records import NO_TARGET, InstanceMasks, MaskLayers, present_ids
from scene.masks.regions import connected_regions

__all__ = [
    "FORMATS",
    "KINDS",
    "MAX_ASPECT_ERROR",
    "NO_TARGET",
    "Finding",
    "IdTable",
    "InstanceMasks",
    "MaskCollection",
    "MaskContent",
    "MaskFiles",
    "MaskLayers",
    "MaskPatches",
    "MaskRequest",
    "ReadMask",
    "collect_masks",
    "connected_regions",
    "labels_file",
    "match_mask_files",
    "numbering_problem",
    "present_ids",
    "read_about",
    "read_label_map",
    "read_label_names",
    "read_layers",
    "read_mask_file",
    "read_masks",
    "refuse_errors",
    "shape_finding",
    "write_about",
]
