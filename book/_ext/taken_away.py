"""Ways to take a page away, in its header: run it on Colab or Binder, or print the whole book.

None of them is invented. Where the book is published is known only where it is published, so a build on GitHub
(``GITHUB_REPOSITORY``, e.g. "owner/name") shows the first two, and another one does not; and the PDF is linked to
where the build goes on to make it (``COMPANION_PDF``, its name).
"""

import os
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

PAGES = "gh-pages"  # the branch of the built pages, with the executed notebooks among their sources


def buttons(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Add the buttons that this build can stand for."""
    found = [(tooltip, icon, url) for tooltip, icon, url in _ways(page, context["pathto"]) if url]
    context["header_buttons"] += [
        {"type": "link", "text": "", "tooltip": tooltip, "icon": icon, "url": url} for tooltip, icon, url in found
    ]


def _ways(page: str, pathto: Any) -> list[tuple[str, str, str | None]]:
    """Tooltip, icon and address of each way; no address where there is none."""
    repository, pdf = os.environ.get("GITHUB_REPOSITORY"), os.environ.get("COMPANION_PDF")
    executed = repository if page.startswith("notebooks/") else None
    return [
        (
            "Run on Colab",
            "fas fa-rocket",
            executed and f"https://colab.research.google.com/github/{executed}/blob/{PAGES}/_sources/{page}.ipynb",
        ),
        (
            "Run on Binder",
            "fas fa-cloud",
            executed and f"https://mybinder.org/v2/gh/{executed}/HEAD?urlpath=lab/tree/{page}.md",
        ),
        ("The whole book as PDF", "fas fa-file-pdf", pdf and pathto(pdf, resource=True)),
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("html-page-context", buttons, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
