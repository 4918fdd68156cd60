"""The examples in the docstrings give what they say."""

import doctest
from pathlib import Path

import pytest

import advtransfer

LIBRARY = Path(advtransfer.__file__).parent
EXTENSIONS = Path(__file__).parents[1] / "book" / "_ext"
MODULES = [
    ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    for root in (LIBRARY.parent, EXTENSIONS)
    for path in sorted(root.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8") and (root == EXTENSIONS or LIBRARY in path.parents)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = pytest.importorskip(name, exc_type=ImportError)  # an extra may be missing
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
