"""A figure at two widths: as a wide page and a PDF show it, and drawn again for a phone, where few panels fit in a row.

A figure function has the decorator `two_widths` and gets its panels from `panels` and its legend from `legend`. A
notebook shows the wide figure, and its output holds the narrow one beside it (`MIME`), which the book shows on small
screens (``book/_ext/narrow_figures.py``).
"""

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, Literal, ParamSpec
from weakref import WeakKeyDictionary

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

MIME = "application/vnd.advtransfer.narrow+xml"  # of the narrow drawing, an SVG, in the output of a notebook
WIDTH = 4.0  # inches of a narrow figure: letters then have about the size of the text around it on a phone
LETTER = 0.083  # inches of a letter, roughly
CLIP = re.compile(r"\bp[0-9a-f]{10}\b")  # the name of a clip in an SVG of matplotlib
TICKS = 19  # letters in a line of a label beside a row

Parameters = ParamSpec("Parameters")
Shared = bool | Literal["row", "col"]
Grid = tuple[np.ndarray, int, Shared, Shared]

_again: WeakKeyDictionary[Figure, Callable[[], Figure]] = WeakKeyDictionary()
_grids: ContextVar[list[Grid] | None] = ContextVar("_grids", default=None)  # of the narrow figure that is being drawn


def two_widths(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Let a figure function draw its figure again, narrow, when the figure is shown in a notebook."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        figure = draw(*args, **kwargs)
        _again[figure] = lambda: draw(*args, **kwargs)
        return figure

    return drawn


def panels(
    rows: int = 1,
    columns: int = 1,
    *,
    size: tuple[float, float],
    used: int | None = None,
    narrow: int = 1,
    heights: Sequence[float] | None = None,
    widths: Sequence[float] | None = None,
    shorter: Sequence[float] | None = None,
    sharex: Shared = False,
    sharey: Shared = False,
) -> tuple[Figure, np.ndarray]:
    """A figure and its panels, an array (rows, columns); of these the first `used` are drawn, row by row.

    A narrow figure has `narrow` panels in a row, and the last one takes what is left of its row.

    Parameters
    ----------
    size
        Width and height of the wide figure, in inches; a row of panels has the same height in both.
    used
        The panels that are needed; all if not given.
    heights, widths
        The ratios of the rows and the columns of the wide figure; with one column, `heights` holds for both.
    shorter
        The heights of the rows of the narrow figure, as shares of the height that they would have.
    """
    used = rows * columns if used is None else used
    grids = _grids.get()
    if grids is None:
        figure, axes = plt.subplots(
            rows, columns, figsize=size, squeeze=False, sharex=sharex, sharey=sharey, height_ratios=heights,
            width_ratios=widths,
        )  # fmt: skip
        for axis in axes.flat[used:]:
            axis.set_axis_off()
        return figure, axes
    narrow = min(narrow, used)
    lines = -(-used // narrow)
    ratios = heights if heights is not None and columns == 1 else shorter if shorter is not None else [1] * lines
    scale = sum(ratios) / lines if shorter is not None else 1
    figure = plt.figure(figsize=(WIDTH, scale * size[1] / rows * lines))
    grid = figure.add_gridspec(lines, narrow, height_ratios=ratios)
    axes = np.full((rows, columns), None)
    for k in range(used):
        line, column = divmod(k, narrow)
        place = grid[line, column:] if k == used - 1 else grid[line, column]
        across, down = _first(axes, k, sharex), _first(axes, k, sharey)
        axes.flat[k] = figure.add_subplot(place, sharex=across, sharey=down)
    grids.append((axes, narrow, sharex, sharey))
    return figure, axes


def is_narrow() -> bool:
    """Whether the figure is being drawn for a phone."""
    return _grids.get() is not None


Outside = Literal["outside upper center", "outside upper right", "outside lower center"]


def legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], *, loc: Outside, columns: int) -> None:
    """A legend outside the panels, in as many columns as fit the figure."""
    if is_narrow():
        longest = max((len(_plain(label)) for label in labels), default=0)
        columns = max(1, min(columns, int((WIDTH - 0.1) / (0.55 + LETTER * longest))))
    figure.legend(handles, labels, loc=loc, ncols=columns)


def narrow(figure: Figure) -> str | None:
    """The SVG of a figure drawn again, `WIDTH` wide; None for one that is not drawn at two widths."""
    if (draw := _again.get(figure)) is None:
        return None
    grids: list[Grid] = []
    token = _grids.set(grids)
    try:
        drawn = draw()
        for grid in grids:
            _complete(*grid)
        _move_legend(drawn)
        drawn.draw_without_rendering()  # a panel is as wide as its labels let it be
        for axis in drawn.axes:
            _break_lines(axis, axis.get_window_extent().width / drawn.dpi)
        text = io.StringIO()
        drawn.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    finally:
        _grids.reset(token)
    plt.close(drawn)
    names: dict[
        str, str
    ] = {}  # matplotlib names a clip by its place, to the last digit, in which two layouts can differ
    return CLIP.sub(lambda found: names.setdefault(found[0], f"p{len(names)}"), text.getvalue())


def offer() -> None:
    """Let this notebook show a figure as SVG, with the narrow drawing beside it; nothing happens elsewhere."""
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return
    if (shell := get_ipython()) is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", bbox_inches="tight", metadata={"Date": None})
        shell.display_formatter.mimebundle_formatter.for_type(Figure, _bundle)


def _bundle(figure: Figure) -> dict[str, Any]:
    text = narrow(figure)
    return {} if text is None else {MIME: text}


def _first(axes: np.ndarray, k: int, shared: Shared) -> Axes | None:
    """The panel whose axis the panel number `k` shares."""
    row, column = divmod(k, axes.shape[1])
    return axes[row, 0] if shared == "row" else axes[0, column] if shared == "col" else axes[0, 0] if shared else None


def _complete(axes: np.ndarray, narrow: int, sharex: Shared, sharey: Shared) -> None:
    """Give panels that stand alone now the labels that they shared with a neighbour, and break long lines."""
    rows, columns = axes.shape
    for k, axis in enumerate(axes.flat):
        if axis is None:
            continue
        row, column = divmod(k, columns)
        outer = k % narrow == 0
        if column and sharey:
            axis.set_ylabel(axes[row, 0].get_ylabel() if outer else "")
        elif not outer and axis.get_ylabel() == axes[row, 0].get_ylabel():
            axis.set_ylabel("")
        elif outer and not axis.get_ylabel() and column:
            axis.set_ylabel(axes[row, 0].get_ylabel())
        if sharex and columns > 1:
            below = axes[-1, column] or axes[0, column]
            axis.set_xlabel(axis.get_xlabel() or below.get_xlabel())
            axis.tick_params(labelbottom=True)
        elif sharex and row < rows - 1:
            axis.tick_params(labelbottom=False)
        if sharey:
            axis.tick_params(labelleft=outer)
        _break_rows(axis)


def _move_legend(figure: Figure) -> None:
    """Put the legend of a panel that is alone above it: inside there is little room."""
    if len(figure.axes) == 1 and (inside := figure.axes[0].get_legend()) is not None:
        inside.remove()
        legend(figure, *figure.axes[0].get_legend_handles_labels(), loc="outside upper center", columns=2)


def _break_rows(axis: Axes) -> None:
    """Break the labels of rows."""
    labels = [label.get_text() for label in axis.get_yticklabels()]
    if isinstance(axis.yaxis.get_major_locator(), FixedLocator) and any(len(label) > TICKS for label in labels):
        axis.set_yticks(axis.get_yticks(), [_broken(label, TICKS) for label in labels])


def _break_lines(axis: Axes, width: float) -> None:
    """Break titles and the label of the horizontal axis."""
    letters = int(width / LETTER)
    for where in ("left", "center", "right"):
        title = axis.get_title(loc=where)
        if title:
            axis.set_title(_broken(title, letters), loc=where, fontsize=axis.title.get_fontsize())
    axis.set_xlabel(_broken(axis.get_xlabel(), letters))


def _broken(text: str, letters: int) -> str:
    """A text in lines of at most so many letters, broken at spaces outside of formulas."""
    kept = re.sub(r"\$[^$]*\$", lambda found: found[0].replace(" ", "\0"), text)
    wrapper = textwrap.TextWrapper(letters, break_long_words=False, break_on_hyphens=False)
    lines = [line for part in kept.split("\n") for line in wrapper.wrap(part) or [""]]
    return "\n".join(lines).replace("\0", " ")


def _plain(text: str) -> str:
    """A label without the commands of its formulas, to count its letters."""
    return re.sub(r"\\[a-z]+|[${}_^]", lambda found: "x" if found[0][0] == "\\" else "", text)
