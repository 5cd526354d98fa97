# SPDX-License-Identifier: Apache-2.0
"""Masks of any other program: `--command 'prog {image} {output}.png'`.

The program is started once for each photograph, without a shell: names with spaces or quotes cannot
become anything else. At `{output}` it may write one file of any of FORMATS, with a suffix of its
choice, or a folder of binary masks under any names.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iqgs.preparation.programs import command_words, run_program
from iqgs.preparation.proposals.protocol import Photograph
from scene.masks import FORMATS, MaskContent, MaskLayers, read_mask_file
from scene.masks.formats.folder import SUFFIXES
from scene.readers.colmap.reading import natural_key
from utils.errors import DataError
from utils.images import write_pixels

# What a file without a suffix is, by its first bytes.
_BEGINNINGS = {
    b"\x89PNG": ".png",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tif",
    b"BM": ".bmp",
    b"\x93NUMPY": ".npy",
    b"PK": ".npz",
    b"[": ".json",
    b"{": ".json",
}


class CommandProposer:
    """Runs a program for each photograph and reads the masks that it wrote."""

    coding = "view"

    def __init__(self, command: str, timeout: float) -> None:
        self.words = command_words(command, "a program with {image} and {output}")
        self.timeout = timeout

    def propose(self, image: Photograph) -> MaskLayers:
        """The program's masks for an image [H, W, 3], which it finds as a PNG."""
        with tempfile.TemporaryDirectory(prefix="iqgs_") as folder:
            photograph, output = Path(folder) / "image.png", Path(folder) / "output"
            write_pixels(photograph, image)
            output.mkdir()
            places = {"{image}": str(photograph), "{output}": str(output / "masks")}
            run_program(self.words, places, self.timeout)
            content = self._content(output)
            height, width = image.shape[:2]
            return _layers(content).resized(width, height)

    def go_on(self, image: Photograph, label_map: NDArray[np.int32], used: int) -> None:
        """Nothing is kept from one photograph to the next."""

    def _content(self, output: Path) -> MaskContent:
        """What the program wrote. DataError where that is not one mask file."""
        found = [path for path in sorted(output.iterdir()) if not path.name.startswith(".")]
        if len(found) != 1:
            names = ", ".join(path.name for path in found[:5]) or "nothing"
            raise DataError(
                f"--command: {self.words[0]!r} wrote {names}; expected one file or folder at "
                f"{{output}}, in one of the formats {', '.join(FORMATS)}"
            )
        path = found[0]
        return read_mask_file(_numbered(path) if path.is_dir() else _with_suffix(path))


def _with_suffix(path: Path) -> Path:
    """The file under a name that tells what it is."""
    if path.suffix:
        return path
    with path.open("rb") as stream:
        begin = stream.read(8)
    suffix = next((s for b, s in _BEGINNINGS.items() if begin.startswith(b)), "")
    return path.rename(path.with_name(path.name + suffix))


def _numbered(folder: Path) -> Path:
    """A folder with the same pictures as 1.png, 2.png, ..., as the format wants them."""
    pictures = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    numbered = folder.with_name("numbered")
    numbered.mkdir()
    for number, path in enumerate(sorted(pictures, key=lambda path: natural_key(str(path))), 1):
        path.rename(numbered / f"{number}{path.suffix}")
    return numbered


def _layers(content: MaskContent) -> MaskLayers:
    """Masks numbered from 1: the program's own numbers mean nothing in other photographs."""
    layers = content.as_layers()
    return replace(layers, source=np.arange(1, len(layers) + 1))
