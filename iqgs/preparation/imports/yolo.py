# SPDX-License-Identifier: Apache-2.0
"""Labels of YOLO's segmentation: one text an image, one line `class x1 y1 x2 y2 ...` a polygon.

Corners are shares of the image's width and height. Names of the classes are in data.yaml (or
dataset.yaml), obj.names or classes.txt beside the labels.
"""

from __future__ import annotations

import re
from pathlib import Path

from iqgs.preparation.imports.archives import read_text
from iqgs.preparation.imports.records import AnnotatedImage, Annotation, Export
from iqgs.preparation.imports.shapes import relative_polygon
from utils.errors import FormatError

NAME_FILES = ("data.yaml", "dataset.yaml", "data.yml", "obj.names", "classes.txt")
_OTHERS = ("train.txt", "val.txt", "valid.txt", "test.txt", "labelmap.txt", *NAME_FILES)


def find_folder(path: Path) -> Path | None:
    """The folder of a data set or of its labels."""
    if path.is_file() and path.name in NAME_FILES[:3]:
        path = path.parent
    if not path.is_dir():
        return None
    files = _label_files(path)
    return path if files and _is_label(files[0]) else None


def _label_files(folder: Path) -> list[Path]:
    """Those in labels/ or obj_*_data/, or else in the folder itself."""
    nested = [path for path in folder.rglob("*.txt") if _label_root(path, folder) != folder]
    files = nested or list(folder.glob("*.txt"))
    return sorted(path for path in files if path.name not in _OTHERS)


def _label_root(path: Path, folder: Path) -> Path:
    for parent in path.parents:
        if parent.name == "labels" or re.fullmatch(r"obj_\w+_data", parent.name):
            return parent
        if parent == folder:
            break
    return folder


def _is_label(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as stream:
        words = stream.readline().split()
    return len(words) >= 7 and words[0].isdecimal() and all(_is_number(word) for word in words[1:])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_folder(folder: Path) -> Export:
    """All labels below a folder. Raises FormatError."""
    names = _class_names(folder)
    boxes, images = 0, []
    for path in _label_files(folder):
        shapes = []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            words = line.split()
            if not words:
                continue
            if len(words) == 5:  # class and box
                boxes += 1
                continue
            try:
                values = [float(word) for word in words[1:]]
                corners = list(zip(values[::2], values[1::2], strict=True))
                label = names.get(int(words[0]), words[0])
                shapes.append(Annotation(relative_polygon(corners), label))
            except ValueError as error:
                raise FormatError(f"{path}: line {number} is no polygon ({error})") from error
        key = path.relative_to(_label_root(path, folder)).with_suffix("").as_posix()
        images.append(AnnotatedImage(key, None, tuple(shapes)))
    notices = (f"{boxes} boxes were left out: they are no masks",) if boxes else ()
    return Export("YOLO", folder, tuple(images), notices)


def _class_names(folder: Path) -> dict[int, str]:
    """Names of the classes by number; empty where no file tells."""
    for name in NAME_FILES:
        for place in (folder, folder.parent):
            path = place / name
            if not path.is_file():
                continue
            text = read_text(path)
            if path.suffix in (".yaml", ".yml"):
                return names_of_yaml(text)
            return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    return {}


def names_of_yaml(text: str) -> dict[int, str]:
    """`names` of a data.yaml: a list in one line, a list or a mapping in many."""
    match = re.search(r"^names\s*:[ \t]*(.*)((?:\n[ \t]+.*|\n-.*|\n[ \t]*(?=\n))*)", text, re.M)
    if match is None:
        return {}
    inline, block = match[1].split(" #")[0].strip(), match[2]
    if inline.startswith("["):
        words = inline.strip("[]").split(",")
        return {number: _unquoted(word) for number, word in enumerate(words) if word.strip()}
    pairs = re.findall(r"(\d+)\s*:\s*([^,}\n]+)", inline or block)
    if pairs:
        return {int(number): _unquoted(word) for number, word in pairs}
    return {k: _unquoted(word) for k, word in enumerate(re.findall(r"\n\s*-\s*(.+)", block))}


def _unquoted(word: str) -> str:
    return word.strip().strip("'\"")
