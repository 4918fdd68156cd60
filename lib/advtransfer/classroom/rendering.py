"""A written answer as a page shows it: Markdown, mathematics and pictures, and nothing that could run or load."""

import base64
import html
import re
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from docutils.utils.math.latex2mathml import tex2mathml
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from advtransfer.classroom.answers import PICTURES, Answer
from advtransfer.classroom.texts import DIRECTIONS

LONGEST = 20_000  # characters of a text that are shown
FORMULA = 4_000  # characters of a formula that is typeset
PICTURE_BYTES = 8 * 2**20  # of one answer, all pictures together, in base64
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
INLINE = re.compile(r"data:(image/[a-z+]+);base64,([A-Za-z0-9+/=]{64,})")  # a picture within the text
IMG = re.compile(r"""\s*<img\b[^<>]*?\bsrc\s*=\s*["']([^"'<>]+)["'][^<>]*>\s*""", re.I)
# Signs that are not seen, or that turn the text after them around, are shown by their names.
HIDDEN = {ord(sign): f"⟨U+{ord(sign):04X}⟩" for sign in (*DIRECTIONS, "\x7f")}
HIDDEN |= {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t\r"}
XMLNS = ' xmlns="http://www.w3.org/1998/Math/MathML"'  # which a page does not need
LIMITS = ("∑", "∏", "⋃", "⋂", "max", "min", "sup", "inf", "lim")  # of these an index stays below
# What TeX knows and docutils does not.
SPELLED = (
    (re.compile(r"\\dots(?![A-Za-z])"), r"\\ldots "),
    (re.compile(r"\\([dt]?frac)\s*([0-9A-Za-z])\s*([0-9A-Za-z])"), r"\\\1{\2}{\3}"),
    (re.compile(r"\\(?:label|tag)\{[^{}]*\}|\\(?:nonumber|notag)(?![A-Za-z])"), ""),
    (re.compile(r"\\[bB]igg?(?=\s*[/|])"), ""),
    (re.compile(r"\\(begin|end)\{(?:align|eqnarray|gather|split)\*?\}"), r"\\\1{aligned}"),
    (re.compile(r"\\(?:begin|end)\{(?:equation|displaymath|math)\*?\}"), ""),
)


def rendered(answer: Answer) -> str:
    """An answer in HTML.

    HTML that a student has written is shown as text, except for pictures and line breaks. Pictures are those in the
    notebook; one from elsewhere is named, and not loaded. A formula that cannot be typeset is shown as it was typed,
    and so is a text that cannot be rendered.

    Examples
    --------
    >>> rendered(Answer("so **x** <script>", {}, []))
    '<p>so <strong>x</strong> &lt;script&gt;</p>\\n'
    """
    attachments = dict(answer.attachments)

    def lifted(match: re.Match[str]) -> str:
        name = f"within-the-text-{len(attachments)}"
        attachments[name] = match[1], match[2]
        return f"attachment:{name}"

    text = INLINE.sub(lifted, answer.text).translate(HIDDEN)
    cut = f"<p><em>The text is cut after {LONGEST:,} of {len(text):,} characters.</em></p>" * (len(text) > LONGEST)
    renderer = _Renderer(attachments)
    try:
        body = MarkdownWithMath(renderer=renderer).render(text[:LONGEST])
    except Exception:  # whatever a text may do to the parser, the teacher can still read it
        body = f"<pre>{html.escape(text[:LONGEST])}</pre>"
    left = [renderer.attached(name, "") for name in attachments if name not in renderer.shown]
    return body + cut + "".join(f"<p>{picture}</p>" for picture in left)


def figures(answer: Answer) -> str:
    """The pictures that the code above an answer shows, in HTML."""
    renderer = _Renderer({str(i): picture for i, picture in enumerate(answer.figures)})
    return "".join(f"<p>{renderer.attached(name, 'An output of the code above')}</p>" for name in renderer.attachments)


def formula(tex: str, *, block: bool = False) -> str:
    r"""A formula in MathML; or as it was typed, if it is not understood.

    Examples
    --------
    >>> formula(r"\unheard{x}")
    '<code class="tex">\\unheard{x}</code>'
    """
    spelled = tex.strip()
    for pattern, replacement in SPELLED:
        spelled = pattern.sub(replacement, spelled)
    try:
        if len(tex) > FORMULA:
            raise ValueError("too long")
        written = tex2mathml(spelled, as_block=block).replace(XMLNS, "", 1).replace("&ApplyFunction;", "\u2061")
        tree = ElementTree.fromstring(written)
        if not "".join(tree.itertext()).strip():
            raise ValueError("nothing is left")
        _mend(tree)
        return ElementTree.tostring(tree, encoding="unicode", short_empty_elements=False)
    except Exception:  # docutils raises many kinds on what it does not know
        return f'<code class="tex">{html.escape(tex.strip())}</code>'


def _mend(tree: ElementTree.Element) -> None:
    """Put the index of a letter with an accent beside it: docutils puts it below, as for a sum."""
    for element in tree.iter("munderover"):
        base, index, accent = element
        is_accent = accent.tag == "mo" and (accent.get("accent") == "true" or accent.get("stretchy") == "false")
        if is_accent and "".join(base.itertext()).strip() not in LIMITS:
            accented = ElementTree.Element("mover", {"accent": "true"})
            accented.extend([base, accent])
            element.tag, element[:] = "msub", [accented, index]


class _Renderer(IPythonRenderer):
    """nbconvert's renderer, with HTML as text, mathematics in MathML and pictures from the notebook alone."""

    def __init__(self, attachments: dict[str, tuple[str, str]]) -> None:
        super().__init__(escape=True, allow_harmful_protocols=False, exclude_anchor_links=True)
        self.attachments: dict[str, Any] = attachments
        self.shown: set[str] = set()
        self._room = PICTURE_BYTES

    def attached(self, name: str, alt: str) -> str:
        self.shown.add(name)
        if name not in self.attachments:
            return _instead(alt, f"attachment:{name}", "is not in the notebook")
        kind, content = self.attachments[name]
        content = "".join(content.split())
        if kind == "image/svg+xml" and not BASE64.fullmatch(content):
            content = base64.b64encode(self.attachments[name][1].encode("utf-8", "replace")).decode()
        if kind not in PICTURES or not BASE64.fullmatch(content):
            return _instead(alt, name, "cannot be shown")
        self._room -= len(content)
        if self._room < 0:
            return _instead(alt, name, f"is left out: at most {PICTURE_BYTES >> 20} MiB of pictures are shown")
        return f'<img src="data:{kind};base64,{content}" alt="{html.escape(alt)}">'

    def image(self, text: str, url: str, title: str | None = None) -> str:
        prefix, _, name = url.partition("attachment:")
        if prefix or not name:
            return _instead(text, url, "is not in the notebook")
        return self.attached(name if name in self.attachments else unquote(name), re.sub(r"<[^>]*>", "", text))

    def inline_html(self, source: str) -> str:
        if match := IMG.fullmatch(source):
            return self.image("", match[1])
        return "<br>" if re.fullmatch(r"<br\s*/?>", source, re.I) else html.escape(source)

    def block_html(self, source: str) -> str:
        if match := IMG.fullmatch(source):
            return f"<p>{self.image('', match[1])}</p>\n"
        return self.block_code(source)

    def block_code(self, code: str, info: str | None = None) -> str:
        return f"<pre>{html.escape(code)}</pre>\n"

    def block_math(self, body: str) -> str:
        return formula(body, block=True)

    def inline_math(self, body: str) -> str:
        return formula(body)

    def latex_environment(self, name: str, body: str) -> str:
        return formula(rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)


def _instead(alt: str, name: str, reason: str) -> str:
    return f'<em class="missing">[a picture, {html.escape(alt or name[:200])}, {reason}]</em>'
