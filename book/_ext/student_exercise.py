"""The directive ``student-exercise``: an exercise of an assignment as students see it, from the instructor's source."""

import re

from docutils import nodes
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from advtransfer.classroom import sheets

HEADING = re.compile(r"^#+ (.*)$", re.M)


def of_exercise(notebook: NotebookNode, key: str) -> list[NotebookNode]:
    """The cells from the heading above the cell `key` to the next heading, without those for the teacher.

    Raises
    ------
    ValueError
        There is no such cell.
    """
    cells = [cell for cell in notebook.cells if not sheets.for_teacher(cell)]
    names = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells]
    heads = [k for k, cell in enumerate(cells) if cell.cell_type == "markdown" and HEADING.match(cell.source)]
    if key not in names:
        raise ValueError(f"there is no cell {key!r}; expected one of {', '.join(filter(None, names))}")
    place = names.index(key)
    first = max(k for k in heads if k <= place)
    return cells[first : min((k for k in heads if k > place), default=len(cells))]


def stubbed(source: str) -> str:
    """Code with a stub in place of each solution, and without hidden tests."""
    source = sheets.HIDDEN.sub("", source)
    return sheets.SOLUTION.sub(lambda found: _stub(found[0]), source).rstrip()


def _stub(solution: str) -> str:
    indent = solution[: len(solution) - len(solution.lstrip())]
    return f"{indent}# YOUR CODE HERE\n{indent}raise NotImplementedError()\n"


class StudentExercise(SphinxDirective):
    """``student-exercise SHEET KEY``: the exercise whose answer is the cell KEY, which has tests."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Show its text, its stub and its visible tests."""
        sheet, key = self.arguments
        try:
            path = sheets.source(sheet)
            cells = of_exercise(sheets.read(path), key)
        except ValueError as error:
            raise self.error(f"student-exercise: {error}") from None
        self.env.note_dependency(str(path))
        made: list[nodes.Node] = []
        for cell in cells:
            if cell.cell_type == "markdown":  # a heading would open a section of this page
                made += self.parse_text_to_nodes(HEADING.sub(r"**\1**", cell.source))
            else:
                source = stubbed(cell.source)
                made.append(nodes.literal_block(source, source, language="python"))
        return made


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.add_directive("student-exercise", StudentExercise)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
