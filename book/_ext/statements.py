"""Call statements by names that a reader can search for, and number none.

The title of a statement of the paper begins with its number there ("Theorem 3.1 of the paper, with its conditions").
Links show "Theorem 3.1". The title of any other statement names it up to the first comma ("closed form for gradients");
it is shown as "Lemma: closed form for gradients", and links show "Lemma “closed form for gradients”".
"""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

OF_THE_PAPER = re.compile(r"(?:Theorem|Proposition|Definition|Assumption) \d+(?:\.\d+)?\b")


def names(kind: str, title: str) -> tuple[str, str]:
    """The title of a statement as its page shows it, and the name that links show.

    >>> names("theorem", "Theorem 3.1 of the paper, with its conditions")
    ('Theorem 3.1 of the paper, with its conditions', 'Theorem 3.1')
    >>> names("definition", "order of a loss, for small deviations")
    ('Definition: order of a loss, for small deviations', 'Definition “order of a loss”')
    """
    if found := OF_THE_PAPER.match(title):
        return title, found[0]
    return f"{kind.capitalize()}: {title}", f"{kind.capitalize()} “{title.partition(',')[0]}”"


def name_statements(app: Sphinx, doctree: nodes.document) -> None:
    """Give each statement of a page its name in place of a number."""
    for node in list(doctree.findall(lambda node: "countertype" in getattr(node, "attributes", {}))):
        shown, name = names(node["realtype"], node["title"].removeprefix(" (").removesuffix(")"))
        app.env.proof_list[node["label"]]["name"] = name
        new = nodes.admonition("", nodes.title("", shown), *node.children[1:])
        new.update_all_atts(node)
        new[1]["ids"] = [f"{node['label']}-content"]  # which is the same for all, too
        node.replace_self(new)
    for node in doctree.findall(nodes.admonition):
        if node["ids"] == ["proof"]:  # which every proof has
            node["ids"] = []
            node["classes"].append("proof-text")


class NameLinks(SphinxPostTransform):
    """A link to a statement shows its name, unless it has a text of its own."""

    default_priority = 5  # before Sphinx resolves links

    def run(self, **given: Any) -> None:
        """Write the names."""
        known = getattr(self.env, "proof_list", {})
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("refdomain") == "prf" and not node.get("refexplicit") and node["reftarget"] in known:
                node.children = []
                node += nodes.inline("", known[node["reftarget"]]["name"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_post_transform(NameLinks)
    app.connect("doctree-read", name_statements)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
