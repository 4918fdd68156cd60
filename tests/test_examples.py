"""The examples in the docstrings give what they say."""

import doctest
from pathlib import Path

import pytest

import advtransfer
from advtransfer.extras import MissingExtraError

LIBRARY = Path(advtransfer.__file__).parent
EXTENSIONS = Path(__file__).parents[1] / "book" / "_ext"
MODULES = [
    ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    for root in (LIBRARY.parent, EXTENSIONS)
    for path in sorted(root.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8") and (root == EXTENSIONS or LIBRARY in path.parents)
]


class Runner(doctest.DocTestRunner):
    """A runner that skips a module one of whose examples needs an extra that is not installed."""

    def report_unexpected_exception(self, out, test, example, exc_info):
        if issubclass(exc_info[0], MissingExtraError):
            pytest.skip(str(exc_info[1]))
        super().report_unexpected_exception(out, test, example, exc_info)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = pytest.importorskip(name, exc_type=ImportError)  # an extra may be missing
    runner = Runner(optionflags=doctest.ELLIPSIS)
    found = doctest.DocTestFinder().find(module)
    assert any(each.examples for each in found)
    for each in found:
        runner.run(each)
    assert runner.failures == 0
