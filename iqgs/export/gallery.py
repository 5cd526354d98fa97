# SPDX-License-Identifier: Apache-2.0
"""One HTML page of all objects: pictures inside it, links to their files beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_STYLE = """
body { font: 15px system-ui, sans-serif; margin: 1.5rem; background: #fafafa; color: #222 }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)) }
article { background: #fff; border: 1px solid #ddd; border-radius: 8px; padding: .7rem }
img { width: 100%; aspect-ratio: 1; border-radius: 4px }
h2 { font-size: 1rem; margin: .4rem 0 .2rem }
p { margin: .2rem 0; color: #666; font-size: .85rem }
a { margin-right: .6rem }
input { font: inherit; padding: .3rem .6rem; margin-bottom: 1rem; width: 16rem }
"""
_SCRIPT = """
const all = [...document.querySelectorAll("article")];
document.querySelector("input").addEventListener("input", event => {
  const wanted = event.target.value.toLowerCase();
  for (const one of all) one.hidden = !one.dataset.name.includes(wanted);
});
"""


def gallery_page(title: str, rows: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The page for rows of objects.json; pictures are read from below `folder`."""
    articles = "\n".join(_article(row, folder) for row in rows)
    name = html.escape(title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Objects of {name}</title>
<style>{_STYLE}</style></head>
<body><h1>Objects of {name}</h1>
<input type="search" placeholder="name or number" aria-label="name or number">
<main>
{articles}
</main>
<script>{_SCRIPT}</script></body></html>
"""


def _article(row: Mapping[str, Any], folder: Path) -> str:
    picture = base64.b64encode((folder / row["preview"]).read_bytes()).decode()
    name = html.escape(str(row["name"] or "object"))
    size = " × ".join(f"{value:.3g}" for value in row["size"])
    links = "".join(
        f'<a href="{html.escape(path)}">{html.escape(kind)}</a>'
        for kind, path in row["files"].items()
    )
    return f"""<article id="object-{row["id"]}" data-name="{name.lower()} {row["id"]}">
<img src="data:image/png;base64,{picture}" alt="{name}" width="192" height="192">
<h2>{row["id"]} · {name}</h2>
<p>{row["splats"]} splats, {size}</p><p>{links}</p></article>"""
