"""Read pages that quote numbers of notebooks in every build: Sphinx does not see that a notebook has changed them."""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def quoting(app: Sphinx, env: BuildEnvironment, added: set, changed: set, removed: set) -> list[str]:
    """The pages with a number from elsewhere."""
    paths = {name: Path(env.doc2path(name)) for name in env.found_docs}
    return [name for name, path in paths.items() if path.suffix == ".md" and "{glue:" in path.read_text("utf-8")]


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.connect("env-get-outdated", quoting)
    return {"parallel_read_safe": True}
