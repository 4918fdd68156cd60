"""Figures on a phone: where a notebook's output holds a narrow drawing of a figure, a page shows it on a small screen.

The output has both (see `advtransfer.pages.layout`). A browser loads one of them, by the width of the screen, and on
paper it is the wide one.
"""

import hashlib
import json
import os
import posixpath
from pathlib import Path
from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.writers.html5 import HTML5Translator

from advtransfer.pages import layout

SVG = "image/svg+xml"
KEY = "narrow_figures"  # of the narrow drawings of the page that is read, by the file of the wide one
SMALL = "screen and (max-width: 600px)"  # as in companion.css


class picture(nodes.General, nodes.Element):
    """A wide image, after the narrow one that takes its place on a small screen."""


class narrow(nodes.image):
    """The narrow image of a `picture`."""


def wrapped(image: nodes.image, uri: str) -> picture:
    """An image with the address of its narrow drawing."""
    return picture("", narrow(uri=uri), image)


def image(env: BuildEnvironment, wide: str, narrow: str | None, **options: str) -> nodes.Node:
    """An image of an SVG; also of the narrow drawing, if there is one."""
    made = nodes.image(uri=kept(env, wide), **options)
    return wrapped(made, kept(env, narrow)) if narrow else made


def kept(env: BuildEnvironment, svg: str) -> str:
    """Write an SVG to where myst-nb writes its own, and give its address for a page."""
    path = Path(env.app.outdir).parent / "jupyter_execute" / f"{_name(svg)}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg, encoding="utf-8")
    return "/" + os.path.relpath(path, env.srcdir).replace(os.sep, "/")


def take_drawings(app: Sphinx, page: str, source: list[str]) -> None:
    """Take the narrow drawings out of a notebook before it is parsed, for myst-nb does not know what they are."""
    app.env.temp_data[KEY] = drawings = {}
    if not app.env.doc2path(page).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for output in (output for cell in notebook["cells"] for output in cell.get("outputs", ())):
        data = output.get("data", {})
        drawing = "".join(data.pop(layout.MIME, ""))
        if drawing and SVG in data:
            drawings[f"{_name(''.join(data[SVG]))}.svg"] = drawing
    source[0] = json.dumps(notebook)


def add_drawings(app: Sphinx, doctree: nodes.document) -> None:
    """Put each image of which there is a narrow drawing into a `picture`."""
    drawings = app.env.temp_data.get(KEY, {})
    for image in list(doctree.findall(nodes.image)):
        folder, _, name = image["uri"].rpartition("/")
        if name in drawings:
            file = f"{_name(drawings[name])}.svg"
            (Path(app.srcdir, folder.lstrip("/")) / file).write_text(drawings[name], encoding="utf-8")
            image.replace_self(wrapped(image.deepcopy(), f"{folder}/{file}"))


def _name(svg: str) -> str:
    """The name that myst-nb gives to the file of an SVG."""
    return hashlib.sha256("\n".join(svg.splitlines()).encode("utf-8")).hexdigest()


def visit_picture(self: HTML5Translator, node: picture) -> None:
    """Open the element."""
    self.body.append("<picture>")


def depart_picture(self: HTML5Translator, node: picture) -> None:
    """Close it."""
    self.body.append("</picture>\n")


def visit_narrow(self: HTML5Translator, node: narrow) -> None:
    """Write the address of the narrow drawing, and for which screens it is."""
    uri = node["uri"]
    if uri in self.builder.images:
        uri = posixpath.join(self.builder.imgpath, quote(self.builder.images[uri]))
    self.body.append(f'<source media="{SMALL}" srcset="{uri}">')


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_node(picture, html=(visit_picture, depart_picture))
    app.add_node(narrow, html=(visit_narrow, None))
    app.connect("source-read", take_drawings)
    app.connect("doctree-read", add_drawings, priority=400)  # before Sphinx notes where the images are
    return {"parallel_read_safe": True, "parallel_write_safe": True}
