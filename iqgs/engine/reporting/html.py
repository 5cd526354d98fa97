# SPDX-License-Identifier: Apache-2.0
"""Pieces of HTML that need nothing beside themselves."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from utils.colors import id_color

QUALITY = 82  # of JPEG

STYLE = """
:root { font: 14px/1.45 system-ui, sans-serif; color: #222; background: #fff; }
body { margin: 24px auto; max-width: 1280px; padding: 0 16px; }
h1 { font-size: 22px; } h2 { font-size: 18px; margin-top: 40px; border-top: 1px solid #ddd;
padding-top: 12px; } h3 { font-size: 15px; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { padding: 3px 8px; text-align: left; vertical-align: middle; white-space: nowrap; }
th { border-bottom: 1px solid #888; } tr:nth-child(even) td { background: #f6f6f6; }
td.words { white-space: normal; min-width: 15em; } .number { font-variant-numeric: tabular-nums; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; }
.charts, .row { display: flex; flex-wrap: wrap; gap: 10px; } figure { margin: 0; }
figure { width: min-content; }
figcaption { font-size: 12px; color: #555; width: 0; min-width: 100%; }
img { display: block; }
.failed { color: #a22; } .note { color: #555; font-size: 12px; }
svg text { font: 10px system-ui, sans-serif; fill: #444; }
"""


def text(value: object) -> str:
    """Any value as text of HTML."""
    return html.escape(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are texts."""
    lines = ["<tr>" + "".join(f"<th>{text(cell)}</th>" for cell in head) + "</tr>"]
    lines += [
        "<tr>" + "".join(f'<td class="number">{text(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    ]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def picture(pixels: NDArray[np.uint8], about: str) -> str:
    """Pixels [H, W, 3] within the page, as a JPEG."""
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "JPEG", quality=QUALITY)
    data = base64.b64encode(packed.getvalue()).decode()
    height, width = pixels.shape[:2]
    return (
        f'<img width="{width}" height="{height}" alt="{text(about)}" title="{text(about)}" '
        f'src="data:image/jpeg;base64,{data}">'
    )


def figure(pixels: NDArray[np.uint8], caption: str) -> str:
    """A picture with words below."""
    return f"<figure>{picture(pixels, caption)}<figcaption>{text(caption)}</figcaption></figure>"


def swatch(number: int) -> str:
    """The colour of an object."""
    color = ",".join(str(int(c)) for c in id_color(np.array([number]))[0])
    return f'<span class="swatch" style="background:rgb({color})"></span>'


def percent(share: float) -> str:
    """A fraction for people."""
    return "-" if share != share else f"{100 * share:.1f}"


def page(title: str, body: str) -> str:
    """The whole document. It may load nothing: all it shows is in it."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{text(title)}</h1>\n{body}\n</body></html>\n"
    )
