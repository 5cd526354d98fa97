# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the program `colmap`: takes its options, writes its files, finds what it is told.

The environment says what it finds: FAKE_MODEL is a folder of numbered models, FAKE_STOP a command
at which it fails.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    command = words[0]
    if "--help" in words:
        sys.stdout.write(
            "  --FeatureExtraction.use_gpu arg\n  --SiftMatching.num_threads arg" + "\n"
        )
        return 0
    options = dict(zip((word[2:] for word in words[1::2]), words[2::2], strict=True))
    if os.environ.get("FAKE_STOP") == command:
        sys.stdout.write(
            "E2024 Check failed: context_.create() OpenGL\n    @     0x555ad2e873a1  _start" + "\n"
        )
        return 6
    if command == "feature_extractor":
        database = sqlite3.connect(options["database_path"])
        database.execute("CREATE TABLE IF NOT EXISTS keypoints (image INTEGER)")
        database.execute("CREATE TABLE IF NOT EXISTS two_view_geometries (pair INTEGER)")
        count = len(list(Path(options["image_path"]).iterdir()))
        database.executemany("INSERT INTO keypoints VALUES (?)", [(i,) for i in range(count)])
        database.commit()
    elif command == "mapper":
        found = os.environ.get("FAKE_MODEL")
        if not found:
            sys.stdout.write("ERROR: failed to create sparse model" + "\n")
            return 1
        sys.stdout.write("Registering image #1 (2)" + "\n")
        shutil.copytree(found, options["output_path"], dirs_exist_ok=True)
    elif command == "image_undistorter":
        output = Path(options["output_path"])
        shutil.copytree(options["image_path"], output / "images")
        shutil.copytree(options["input_path"], output / "sparse")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
