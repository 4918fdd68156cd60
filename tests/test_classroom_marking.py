"""The marking page: what students write is shown and never runs, and what the teacher types comes back."""

import base64
import re
import struct
import time
import zlib

import nbformat
import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from advtransfer.classroom import answers, classes, gradebook, marking, marks, rendering
from advtransfer.classroom.answers import Answer
from advtransfer.classroom.rendering import formula, rendered
from advtransfer.commands import main as cli
from browser import AXE
from classroom_cases import SOURCES, graded_as, original, solved, stubbed, write

NAME = "5-project"
SHEET = original(NAME)
QUESTION = "written-question"
MADE = {
    "exercises": {"test-effect": {"points": 4.0, "of": 4, "message": ""}},
    "answers": {}, "notes": [], "sha256": "0" * 64, "graded": "now", "seed": 1,
}  # fmt: skip


def png(width=2, height=3):
    """A picture, made here."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x80" * 3 * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    made = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(made).decode()


def shown(text, **attachments):
    return rendered(Answer(text, {name: ("image/png", content) for name, content in attachments.items()}, []))


TAGS = {
    "p", "em", "strong", "del", "code", "pre", "a", "img", "br", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li",
    "dl", "dt", "dd", "hr", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "input",
    "math", "mi", "mo", "mn", "mtext", "mrow", "mfrac", "msup", "msub", "msubsup", "msqrt", "mroot", "mover", "munder",
    "munderover", "mtable", "mtr", "mtd", "mspace", "mstyle", "mpadded", "menclose", "mphantom",
}  # fmt: skip
HOSTILE = (
    "<script>hack()</script>", "```mermaid\n<script>hack()</script>\n```", "<img src=x onerror=hack()>",
    "[a](javascript:hack())", "<svg onload=hack()>", "![a\" onerror=\"hack()](attachment:p)", "$\\text{<b onclick=x>}$",
    "[x](http://a.b \"t\\\" onclick=hack()\")", "<img src=\"javascript:hack()\">", "$a<script>$", "&lt;script&gt;",
    "| <b> | b |\n|---|---|\n| <script>hack()</script> | $</math><script>$ |", "\\begin{a}<script>\\end{a}",
    "<iframe srcdoc='<script>parent.hack()</script>'>", "![p](attachment:\"><script>hack()</script>)",
    "<style>*{}</style>",
    "<meta http-equiv=refresh content='0;url=http://a.b'>", "<math><mtext><script>hack()</script></mtext></math>",
    "```<script>\nx\n```", "<!-- --><a href='x'>", "</div></article><script>hack()</script>",
    "[a]: javascript:hack()\n[a]",
    "<base href=//a.b>", "<form action=//a.b><input>", "![](data:image/svg+xml;base64,AAAA)", "![x](file:///etc/passwd)",
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(HOSTILE) | st.text("<>&\"'`$|[]()!\\{}*_# \nab", max_size=12), max_size=6).map("".join))
def test_an_answer_becomes_text_tables_mathematics_and_pictures_and_nothing_else(text):
    for tag in BeautifulSoup(shown(text, p=png()), "html.parser").find_all(True):
        assert tag.name in TAGS, tag
        assert not [name for name in tag.attrs if name.startswith("on") or name in ("srcdoc", "action", "srcset")], tag
        assert re.match(r"https?:|mailto:|#|/|[^:]*$", tag.get("href", "")), tag
        assert tag.name != "img" or tag["src"].startswith("data:image/png;base64,"), tag


def test_the_dialect_is_that_of_notebooks():
    assert "<strong>b</strong>" in shown("a **b**")
    assert "<table>" in shown("|a|b|\n|-|-|\n|1|2|")
    for text in ("$x^2$", "$$x^2$$", r"\begin{align}x^2\end{align}", r"\\(x^2\\)", r"\\[x^2\\]"):
        assert "<msup>" in shown(f"so {text}, then"), text
    assert 'display="block"' in shown("$$x$$")
    assert "2 &lt; 3" in shown("2 < 3")
    assert "a<br>b" in shown("a<br>b")


def test_what_cannot_be_typeset_or_parsed_is_shown_as_it_was_typed(monkeypatch):
    assert formula(r"\unheard{a<b}") == r'<code class="tex">\unheard{a&lt;b}</code>'
    assert formula("{" * 3000 + "x").startswith('<code class="tex">')
    assert formula("x" * 5000).startswith('<code class="tex">')
    assert shown("> " * 40_000).startswith("<pre>") or "blockquote" in shown("> " * 40_000)
    monkeypatch.setattr(rendering, "MarkdownWithMath", None)
    assert shown("a <b>") == "<pre>a &lt;b&gt;</pre>"


@pytest.mark.parametrize(("tex", "tags"), [
    (r"\hat u_i", "msub mover mi mo mi"), (r"\hat{w}_i^\top", "msup msub mover mi mo mi mi"),
    (r"\overline{x}_i", "msub mover mi mo mi"), (r"\sum_{i=1}^n", "munderover mo mrow mi mo mn mi"),
    (r"\sum\limits_i^*", "munderover mo mi mo"), (r"\hat x", "mover mi mo"),
])  # fmt: skip
def test_an_index_stands_where_tex_puts_it(tex, tags):
    assert re.findall(r"<(m\w+)", formula(tex, block=True))[1:] == tags.split()


def test_nearly_every_formula_of_the_book_is_typeset():
    book = SOURCES.parents[1]
    texts = [
        path.read_text(encoding="utf-8") for folder in ("book", "notebooks") for path in (book / folder).rglob("*.md")
    ]
    prose = re.sub(r"```.*?```", "", "\n\n".join(texts), flags=re.S)
    formulas = {a or b for a, b in re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", prose, re.S)}
    left = [tex for tex in formulas if formula(tex).startswith("<code")]
    assert len(formulas) > 300
    assert len(left) <= len(formulas) // 100, left


def test_signs_that_are_not_seen_are_shown_by_name():
    assert "␛[31m red ⟨U+202E⟩ turned" in shown("\x1b[31m red \u202e turned")
    assert "x" * 5000 in shown("x" * 5000)
    assert "cut after 20,000 of 20,001" in shown("x" * 20_001)
    assert "⟨U+200F⟩a⟨U+061C⟩" in shown("\u200fa\u061c")
    assert rendered(Answer("half \ud800", {}, []))


def test_pictures_are_those_of_the_notebook():
    content = png()
    assert f'<img src="data:image/png;base64,{content}" alt="a">' in shown(
        "![a](attachment:p.png)", **{"p.png": content}
    )
    assert content in shown("![a](attachment:my%20p.png)", **{"my p.png": content})
    assert content in shown("![a](<attachment:my p.png>)", **{"my p.png": content})
    assert content in shown('<img src="attachment:p" width="300"/>', p=content)
    assert content in shown("nothing said", p=content)  # pasted, and not referred to
    assert shown("![a](attachment:p)", p=content).count("<img") == 1
    long = base64.b64encode(b"0" * 200_000).decode()
    assert long in shown(f"![a](data:image/png;base64,{long}) and more")
    assert "[a picture, a, is not in the notebook]" in shown("![a](https://example.org/a.png)")
    assert "[a picture, a, is not in the notebook]" in shown("![a](attachment:none)")
    assert "cannot be shown" in shown("![a](attachment:p)", p='"><script>')
    heavy = "A" * (rendering.PICTURE_BYTES // 2 + 4)
    assert shown("", p=heavy, q=heavy).count("<img") == 1
    assert "at most 8 MiB of pictures are shown" in shown("", p=heavy, q=heavy)


def with_outputs(notebook, key, *outputs):
    """A code cell with outputs before the answer `key`."""
    at = next(i for i, c in enumerate(notebook.cells) if c.metadata.get("nbgrader", {}).get("grade_id") == key)
    shown = [nbformat.v4.new_output("display_data", data) for data in outputs]
    notebook.cells.insert(at, nbformat.v4.new_code_cell("plot()", outputs=shown))
    return notebook


def test_answers_are_read_with_their_attachments_and_the_figures_above_them(tmp_path):
    notebook = with_outputs(
        solved(NAME), QUESTION, {"image/png": png(), "text/plain": "x"}, {"image/svg+xml": "<svg/>"}
    )
    cell = next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == QUESTION)
    cell["attachments"] = {"p.png": {"image/png": png(5, 5)}}
    found = answers.read(write(notebook, tmp_path / "a.ipynb"), SHEET)
    assert found[QUESTION].attachments == {"p.png": ("image/png", png(5, 5))}
    assert [kind for kind, _ in found[QUESTION].figures] == ["image/png", "image/svg+xml"]
    assert base64.b64encode(b"<svg/>").decode() in rendering.figures(found[QUESTION])
    before = answers.versions(found, SHEET, "0" * 64)
    cell["attachments"] = {"p.png": {"image/png": png(5, 6)}}
    write(notebook, tmp_path / "a.ipynb")
    after = answers.versions(answers.read(tmp_path / "a.ipynb", SHEET), SHEET, "0" * 64)
    assert {key for key in before if before[key] != after[key]} == {QUESTION}


def test_what_is_written_below_an_answer_belongs_to_it_up_to_the_next_cell_of_the_sheet(tmp_path):
    notebook = solved(NAME)
    at = next(i for i, c in enumerate(notebook.cells) if c.metadata.get("nbgrader", {}).get("grade_id") == QUESTION)
    answer = notebook.cells[at]
    answer.source = "first"
    twice, foreign = (nbformat.from_dict({**answer, "id": name, "source": name}) for name in ("second", "third"))
    foreign.metadata = {"nbgrader": {"grade_id": "of another sheet"}}
    notebook.cells[at + 1 : at + 1] = [twice, nbformat.v4.new_code_cell("1"), foreign]
    assert answers.read(write(notebook, tmp_path / "a.ipynb"), SHEET)[QUESTION].text == "first\n\nsecond\n\nthird"
    answer.update(cell_type="code", outputs=[], execution_count=None)  # turned into one by mistake
    assert answers.read(write(notebook, tmp_path / "a.ipynb"), SHEET)[QUESTION].text.startswith("first")


def test_what_is_written_above_an_answer_belongs_to_it_and_so_does_changed_text_of_the_sheet(tmp_path):
    notebook = solved(NAME)
    at = next(i for i, c in enumerate(notebook.cells) if c.metadata.get("nbgrader", {}).get("grade_id") == QUESTION)
    notebook.cells[at].source = "YOUR ANSWER HERE"
    notebook.cells.insert(at, nbformat.v4.new_markdown_cell("My answer."))
    assert answers.read(write(notebook, tmp_path / "a.ipynb"), SHEET)[QUESTION].text == "My answer.\n\nYOUR ANSWER HERE"
    for place, size in ((at, 5), (at + 1, 6)):
        notebook.cells[place].source = "![x](attachment:image.png)"
        notebook.cells[place]["attachments"] = {"image.png": {"image/png": png(size, size)}}
    found = answers.read(write(notebook, tmp_path / "a.ipynb"), SHEET)[QUESTION]
    assert found.text == "![x](attachment:image.png)\n\n![x](attachment:1-image.png)"
    assert {name: data for name, (_, data) in found.attachments.items()} == {
        "image.png": png(5, 5), "1-image.png": png(6, 6),
    }  # fmt: skip
    notebook.cells[at].source, notebook.cells[at + 1].source = "My answer.", "YOUR ANSWER HERE"
    task = next(c for c in notebook.cells[at::-1] if "nbgrader" not in c.metadata and c.source != "My answer.")
    task.source += "\nMore of it."  # in the text of the sheet
    text = answers.read(write(notebook, tmp_path / "a.ipynb"), SHEET)[QUESTION].text
    assert "More of it.\n\nMy answer.\n\nYOUR ANSWER HERE" in text


@pytest.mark.parametrize("content", [
    b"", b"[]", b"{}", b'{"cells": 3}', b'{"cells": [1, {"metadata": 3}]}', b"[" * 10**5,
    b'{"cells": [{"cell_type": "markdown", "metadata": {"nbgrader": {"grade_id": []}}}]}',
])  # fmt: skip
def test_what_is_no_notebook_has_no_answers(tmp_path, content):
    (tmp_path / "a.ipynb").write_bytes(content)
    assert answers.read(tmp_path / "a.ipynb", SHEET) == {}
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "a.ipynb")
    assert answers.read(tmp_path / "link.ipynb", SHEET) == {}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A class of three, of whom Eve means harm."""
    folder = tmp_path / "the class" / NAME
    text = "So $\\alpha_1^2$ and $$\\sum_i \\frac{1}{i}$$\n\n![p](attachment:p.png)"
    good = with_outputs(stubbed(NAME, written_question=text), QUESTION, {"image/png": png(40, 30)})
    cell = next(c for c in good.cells if c.metadata.get("nbgrader", {}).get("grade_id") == QUESTION)
    cell["attachments"] = {"p.png": {"image/png": png(40, 30)}}
    write(good, folder / "submitted" / "Ada.ipynb")
    write(stubbed(NAME), folder / "submitted" / "O'Brien, Zoë.ipynb")
    text = "\n\n".join(HOSTILE).replace("hack()", "window.hacked=1")
    eve = stubbed(NAME, written_question=text, written_limits=text)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.hacked=1"><script>window.hacked=1</script></svg>'
    for cell in eve.cells:
        if cell.cell_type == "markdown":
            cell["attachments"] = {"p": {"image/svg+xml": base64.b64encode(svg).decode()}}
    write(eve, folder / "submitted" / "eve.ipynb")
    graded_as(monkeypatch, dict(MADE))
    classes.grade_class(folder, SHEET, seed=1)
    return folder


def of(folder, student, key):
    return next(row for row in gradebook.rows(folder, SHEET)[student] if row.exercise.key == key)


def test_a_saved_file_takes_the_place_of_the_marks_which_are_kept(folder, tmp_path, capsys):
    before = (folder / "marks.csv").read_bytes()
    saved = tmp_path / "marks(1).csv"
    table = marks.read_table(folder / "marks.csv")
    table.rows[0][1][table.header.index("points")] = "2,5"
    marks.write_table(saved, table._replace(delimiter=";"))
    asked = ["classroom", "mark", NAME, "--class", str(folder.parent), "--take", str(saved)]
    assert cli.main(asked) == 0
    assert "marks: 1 new, 0 changed, 0 gone; the earlier file is" in capsys.readouterr().out
    assert of(folder, "Ada", QUESTION).points == 2.5
    assert [path.read_bytes() for path in (folder / "earlier").iterdir()] == [before]
    table.rows[0][1][table.header.index("points")] = ""
    marks.write_table(saved, table)
    assert cli.main(asked) == 0
    assert f"gone: the mark of Ada for {QUESTION}" in capsys.readouterr().err
    saved.write_bytes(b"student,exercise,points,comment\nnobody,x,1,\n")
    now = (folder / "marks.csv").read_bytes()
    assert cli.main(asked) == 2
    assert "'x'; expected an exercise of the assignment" in capsys.readouterr().err
    assert (folder / "marks.csv").read_bytes() == now
    asked[-1] = str(tmp_path / "none.csv")
    assert cli.main(asked) == 2
    assert "there is no file" in capsys.readouterr().err


def test_nothing_graded_is_told(tmp_path):
    with pytest.raises(ValueError, match="expected `advtransfer classroom grade` to have run"):
        marking.write_page(tmp_path, SHEET, "x", "y")


@pytest.fixture
def page(folder):
    return marking.write_page(folder, SHEET, "Project", "classroom mark --take FILE")


def type_in(browser, student, exercise, column, text):
    place = f'article[data-student="{student}"][data-exercise="{exercise}"] [name={column}]'
    browser.run(f"document.querySelector(`{place}`).focus()")
    browser.call("Input.insertText", text=text)


def saved(browser, folder, save):
    """The content of what the page saves."""
    folder.mkdir()
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    save()
    end = time.monotonic() + 30
    while not (done := list(folder.glob("*.csv"))) and time.monotonic() < end:
        browser.run("new Promise(done => setTimeout(done, 50))")
    assert done, browser.run("document.getElementById('told').textContent")
    return done[0]


def test_nothing_that_a_student_wrote_runs_or_loads(browser, folder):
    table = marks.read_table(folder / "marks.csv")
    for _, row in table.rows:
        row[table.header.index("comment")] = "</script><script>window.hacked=1</script>"
    marks.write_table(folder / "marks.csv", table)
    page = marking.write_page(folder, SHEET, "Project </title><script>window.hacked=1</script>", "<b>")
    browser.open(page)
    assert browser.run("document.querySelector('textarea').value") == "</script><script>window.hacked=1</script>"
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    browser.run("document.querySelectorAll('.answer a').forEach(link => { link.target = '_self'; })")
    browser.run("[...document.querySelectorAll('.answer a[href^=\"#\"]')].forEach(link => link.click())")
    browser.run("new Promise(done => setTimeout(done, 300))")
    assert browser.run("window.hacked") is None
    assert browser.run("location.pathname").endswith("marking.html")
    assert browser.run("document.querySelectorAll('article').length") == 3 * 6
    asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("data:image/", page.as_uri()))] == []
    blocked = [e["params"]["entry"]["text"] for e in browser.events if e["method"] == "Log.entryAdded"]
    assert blocked == []  # nothing was even tried


def test_what_would_slip_through_does_not_run_either(browser, page):
    """The second defence by itself: the page's policy allows its own script alone."""
    bad = (
        "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
        "<a id=bad href='javascript:window.hacked=1'>a</a>"
    )
    text = page.read_text(encoding="utf-8")
    page.write_text(
        text.replace('<div class="answer" dir="auto">', f'<div class="answer" dir="auto">{bad}', 1), encoding="utf-8"
    )
    browser.open(page)
    browser.run("document.getElementById('bad').click()")
    browser.run("new Promise(done => setTimeout(done, 300))")
    assert browser.run("window.hacked") is None
    assert browser.run("document.getElementById('progress').textContent") == "0 of 15 answers marked"  # its own runs


def test_mathematics_and_pictures_are_shown(browser, page):
    browser.open(page)
    ada = 'article[data-student="Ada"][data-exercise="written-question"]'
    assert browser.run(f"document.querySelectorAll('{ada} math').length") == 2
    assert browser.run(f"document.querySelector('{ada} msup, {ada} msubsup').getBoundingClientRect().height") > 5
    over, under = (f"document.querySelector('{ada} mfrac').children[{i}].getBoundingClientRect()" for i in (0, 1))
    assert browser.run(f"{over}.bottom <= {under}.top + 2")
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.run(f"[...document.querySelectorAll('{ada} img')].map(picture => picture.naturalWidth)") == [40, 40]


def test_marks_typed_by_keyboard_come_back(browser, page, folder, tmp_path):
    browser.open(page)
    type_in(browser, "Ada", QUESTION, "points", "2,5")
    browser.press("Enter")
    assert browser.run("document.activeElement.closest('article').dataset.student") == "O'Brien, Zoë"
    browser.call("Input.insertText", text="1")
    browser.press("ArrowDown", modifiers=1)
    assert browser.run("document.activeElement.closest('article').dataset.student") == "eve"
    browser.press("ArrowUp", modifiers=1)
    type_in(browser, "O'Brien, Zoë", QUESTION, "comment", 'Well, "almost";\nsee <b>page 3</b>')
    type_in(browser, "eve", marks.WHOLE, "penalty", "2")
    type_in(browser, "eve", marks.WHOLE, "comment", "A day late.")
    assert browser.run("document.getElementById('progress').textContent") == "2 of 15 answers marked"
    file = saved(browser, tmp_path / "downloads", lambda: browser.press("s", modifiers=2))
    taken = marking.take(folder, SHEET, file)
    assert len(taken.new) == 3
    assert taken.gone == []
    assert of(folder, "Ada", QUESTION).points == 2.5
    assert of(folder, "O'Brien, Zoë", QUESTION)[1:3] == (1, 'Well, "almost";\nsee <b>page 3</b>')
    assert of(folder, "eve", marks.WHOLE)[1:3] == (-2, "A day late. Penalty: 2.")
    assert len(marks.read_table(folder / "marks.csv").rows) == 15 + 1


def test_a_wrong_number_is_not_saved_and_an_earlier_mark_and_own_columns_stay(browser, folder, tmp_path):
    table = marks.read_table(folder / "marks.csv")
    table = table._replace(header=[*table.header, "my notes"], rows=[(n, [*row, f"note {n}"]) for n, row in table.rows])
    table.rows[0][1][table.header.index("points")] = "3"
    marks.write_table(folder / "marks.csv", table)
    browser.open(marking.write_page(folder, SHEET, "Project", "x"))
    assert browser.run("document.querySelector('[name=points]').value") == "3"
    type_in(browser, "eve", QUESTION, "points", "33")
    assert browser.run("document.getElementById('progress').textContent") == "1 of 15 answers marked"
    browser.run("document.getElementById('save').click()")
    assert browser.run("document.getElementById('told').textContent").startswith("Not saved")
    assert browser.run("document.activeElement.closest('article').dataset.student") == "eve"
    browser.run("document.activeElement.select()")
    browser.call("Input.insertText", text="0")
    file = saved(browser, tmp_path / "downloads", lambda: browser.run("document.getElementById('save').click()"))
    after = marks.read_table(file)
    assert after.header == table.header
    assert [row[-1] for _, row in after.rows] == [row[-1] for _, row in table.rows]
    marking.take(folder, SHEET, file)
    assert (of(folder, "Ada", QUESTION).points, of(folder, "eve", QUESTION).points) == (3, 0)


def test_an_answer_changed_since_its_mark_is_flagged_until_the_teacher_says_so(browser, folder, tmp_path):
    table = marks.read_table(folder / "marks.csv")
    for _, row in table.rows[:3]:
        row[table.header.index("points")] = "1"
    marks.write_table(folder / "marks.csv", table)
    keys = [table.cell(row, "exercise") for _, row in table.rows[:3]]
    changed = stubbed(NAME, **{key.replace("-", "_"): "another" for key in keys})
    write(changed, folder / "submitted" / "Ada.ipynb")
    classes.grade_class(folder, SHEET, seed=1)
    browser.open(marking.write_page(folder, SHEET, "Project", "x"))
    assert browser.run("document.querySelectorAll('.changed').length") == 3
    browser.run("document.querySelector('[name=stands]').click()")
    type_in(browser, "Ada", keys[1], "points", "")
    browser.run("document.activeElement.select()")
    browser.call("Input.insertText", text="2")
    file = saved(browser, tmp_path / "downloads", lambda: browser.run("document.getElementById('save').click()"))
    marking.take(folder, SHEET, file)
    assert [of(folder, "Ada", key).changed for key in keys] == [False, False, True]
    assert [of(folder, "Ada", key).points for key in keys] == [1, 2, 1]


def test_what_was_typed_and_not_saved_is_there_again(browser, page, tmp_path):
    browser.open(page)
    type_in(browser, "Ada", QUESTION, "points", "2")
    browser.run("setTimeout(() => location.reload(), 0); null")
    browser.wait("Page.javascriptDialogOpening", type="beforeunload")  # the browser asks before it leaves the page
    browser.call("Page.handleJavaScriptDialog", accept=True)
    browser.wait("Page.loadEventFired")
    assert browser.run("document.querySelector('[name=points]').value") == "2"
    assert browser.run("document.getElementById('told').textContent").startswith("What you had typed, and marks.csv")
    saved(browser, tmp_path / "downloads", lambda: browser.run("document.getElementById('save').click()"))
    browser.open(page)  # the download may have been cancelled
    assert browser.run("document.querySelector('[name=points]').value") == "2"


@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core here (make test fetches it where there is npm)")
def test_the_page_can_be_used_by_those_who_do_not_see_it(browser, page):
    browser.open(page)
    assert browser.violations() == []
