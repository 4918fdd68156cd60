"""A number in prose is that of its record: another record, another page."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

QUOTED = "theory_equation12_error"


@contextmanager
def restored(files: list[Path]) -> Iterator[None]:
    before = {file: file.read_bytes() for file in files}
    try:
        yield
    finally:
        for file, content in before.items():
            file.write_bytes(content)


def test_a_number_that_changes_in_a_notebook_changes_on_every_page_that_quotes_it(book: Path) -> None:
    folder = book.parents[1]  # built again in its place, where Sphinx knows what has not changed
    notebook = folder / "notebooks" / "theory_checks.ipynb"
    quoting = [path for path in sorted((folder / "book").rglob("*.md")) if QUOTED in path.read_text(encoding="utf-8")]
    built = [book / path.relative_to(folder).with_suffix(".html") for path in quoting]
    assert built
    with restored([notebook, *book.rglob("*.html")]):
        assert not [page for page in built if "1.2e-01" in page.read_text(encoding="utf-8")]
        node, changed = json.loads(notebook.read_text(encoding="utf-8")), 0
        for output in (output for cell in node["cells"] for output in cell.get("outputs", [])):
            if output.get("metadata", {}).get("scrapbook", {}).get("name", "").endswith(QUOTED):
                output["data"] = dict.fromkeys(output["data"], "0.1234")
                changed += 1
        assert changed == 1
        notebook.write_text(json.dumps(node), encoding="utf-8")
        jupyter_book = Path(sys.executable).with_name("jupyter-book")
        subprocess.run([jupyter_book, "build", folder, "-W", "-n", "--keep-going"], check=True, capture_output=True)
        assert [page for page in built if "1.2e-01" in page.read_text(encoding="utf-8")] == built
