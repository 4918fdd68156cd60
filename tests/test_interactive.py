"""The figures that move: their numbers are the library's, and they work by keyboard, from a file, on a phone."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from advtransfer import matching, metrics
from advtransfer.experiments import counterexamples
from advtransfer.experiments.pool import PREDICTORS
from advtransfer.pages import plots
from advtransfer.records.published import published, rows_of
from browser import SHIFT, Browser

BOOK = Path(__file__).parents[1] / "book"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node here to run the scripts' numeric core")
CLOSE = {"abs": 1e-10, "rel": 0}


def node(script: str, expression: str, given: Any) -> Any:
    """The value of `expression` in node, with the script as `core` and `given` as `given`; NaN comes back as None."""
    program = (
        f"const core = require({json.dumps(str(BOOK / '_static' / 'move' / script))});"
        "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"process.stdout.write(JSON.stringify({expression}));"
    )
    found = subprocess.run([str(NODE), "-e", program], input=json.dumps(given), capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def compare(pairs: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
    return node("jacobians.js", "given.map(([a, b]) => core.compare(a, b))", pairs)


def presets() -> dict[str, dict[str, Any]]:
    return node("jacobians.js", "core.PRESETS", None)


def by_library(a: Any, b: Any) -> dict[str, float]:
    """What the script should say of Jacobians (N, 2, 2)."""
    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    measured, theorem = metrics.from_jacobians(a, b), matching.theorem_ratio(a, b)
    return {
        **{name: getattr(measured, name) for name in ("alpha1", "alpha2", "alpha12")},
        "ratio": theorem.ratio,
        "ratioFirst": theorem.ratio_first,
        "rho": theorem.rho,
        "distance": matching.gradient_matching(a, b).relative,
    }


# ---- the numbers of two models


@needs_node
@pytest.mark.parametrize("rank", [2, 1])
def test_the_script_computes_what_the_library_does(rank):
    rng = np.random.default_rng(0)
    pairs = []
    for case in range(150):
        n = 1 + case % 4
        a, b = rng.standard_normal((2, n, 2, 2))
        if rank == 1:  # the same direction at all inputs: then K has no inverse
            b = np.einsum("i,nj->nij", rng.standard_normal(2), rng.standard_normal((n, 2)))
        if case % 5 == 0:  # an input that moves one of the models nowhere
            (a if case % 2 and n > 1 else b)[0] = 0
        if case % 7 == 0:
            a = rng.standard_normal((2, 2)) @ b
        if a.any() and b.any():
            pairs.append((a.tolist(), b.tolist()))
    for (a, b), found in zip(pairs, compare(pairs), strict=True):
        expected = by_library(a, b)
        assert {name: found[name] for name in expected} == pytest.approx(expected, **CLOSE)


@needs_node
def test_the_presets_are_the_librarys_too_and_show_what_is_said_of_them():
    given = presets()
    pairs = {name: (models["a"], models["b"]) for name, models in given.items()}
    found = dict(zip(given, compare(list(pairs.values())), strict=True))
    for name, (a, b) in pairs.items():
        expected = by_library(a, b)
        assert {key: found[name][key] for key in expected} == pytest.approx(expected, **CLOSE), name

    def of(name: str, *keys: str) -> list[float]:
        return [found[name][key] for key in keys]

    three = ("alpha1", "alpha2", "alpha12")
    for name in ("equal", "rotated"):
        assert of(name, *three, "distance") == pytest.approx([1, 1, 1, 0], **CLOSE)
    assert of("pushed", "distance", "alpha2") == pytest.approx([0, 1], **CLOSE)
    assert found["pushed"]["alpha1"] < 0.9
    assert of("far", *three) == pytest.approx([1, 1, 1], **CLOSE)
    assert found["far"]["distance"] > 0.7
    assert of("near", "alpha1", "distance") == pytest.approx([1 / 12, 0], **CLOSE)
    assert of("onlyAlpha1", *three, "distance") == pytest.approx([1, 0, 0, 1], **CLOSE)
    assert of("onlyAlpha2", "alpha1", "alpha2") == pytest.approx([0.1 / 1.01**0.5, 1], **CLOSE)
    assert of("itself", "alpha1", "alpha2", "distance") == pytest.approx([1, 0.5**0.5, 0], **CLOSE)
    overshoot = next(c for c in counterexamples.counterexamples() if c.key == "erratum-overshoot")
    assert of("overshoot", "ratioFirst", "ratio") == pytest.approx([overshoot.printed, overshoot.holds], **CLOSE)


@needs_node
def test_with_two_inputs_alpha2_is_what_the_page_says():
    rng = np.random.default_rng(1)
    pairs = [tuple(rng.standard_normal((2, 2, 2, 2)).tolist()) for _ in range(50)]
    expression = (
        "given.map(([a, b]) => { const { alpha2, sites: [p, q] } = core.compare(a, b);"
        "return [alpha2 ** 2, (1 + core.cosine(p.aa, q.aa) * core.cosine(p.ab, q.ab)) / 2]; })"
    )
    for square, said in node("jacobians.js", expression, pairs):
        assert square == pytest.approx(said, **CLOSE)


@needs_node
def test_what_is_not_defined_is_not_given():
    turn, some, nothing = [[0.6, -0.8], [0.8, 0.6]], [[1, 0.5], [0.2, 0.3]], [[0, 0], [0, 0]]
    tied, unmoved, flat = compare(
        [([turn, some], [some, some]), ([some] * 2, [nothing] * 2), ([nothing] * 2, [some] * 2)]
    )
    for name in ("alpha1", "alpha2", "alpha12", "ratioFirst"):
        assert tied[name] is None
    expected = by_library([turn, some], [some, some])
    assert [tied["distance"], tied["ratio"]] == pytest.approx([expected["distance"], expected["ratio"]], **CLOSE)
    assert unmoved["alpha1"] is None
    assert unmoved["distance"] == 1
    assert flat["distance"] is None


# ---- the ranks


@needs_node
def test_ranks_are_correlated_as_scipy_does_plain_and_partial():
    rng = np.random.default_rng(2)
    for ties in (False, True):
        x, y, z = rng.integers(0, 6, (3, 25)).astype(float) if ties else rng.standard_normal((3, 25))
        plain, partial, kept = node(
            "ranks.js",
            "[core.spearman(...given.slice(0, 2)), core.partial(...given), core.beyond(given[0], given[2])]",
            [x.tolist(), y.tolist(), z.tolist()],
        )
        xy, xz, yz = (stats.spearmanr(u, v).statistic for u, v in ((x, y), (x, z), (y, z)))
        assert plain == pytest.approx(xy, **CLOSE)
        assert partial == pytest.approx((xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5, **CLOSE)
        fit = stats.linregress(stats.rankdata(z), stats.rankdata(x))
        assert kept == pytest.approx(stats.rankdata(x) - fit.intercept - fit.slope * stats.rankdata(z), abs=1e-9)


# ---- the pages


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages of a book of three pages: one with both figures, one without, one that asks for another."""
    build = pytest.importorskip("sphinx.cmd.build", reason="no Sphinx here to build a page")
    pytest.importorskip("myst_parser", reason="no MyST here to build a page")
    source = tmp_path_factory.mktemp("book")
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(BOOK / '_ext')!r})\n"
        "extensions = ['myst_parser', 'moving_figures']\nroot_doc = 'both'\n"
        f"html_static_path = [{str(BOOK / '_static')!r}]\nhtml_css_files = ['companion.css']\n"
        "html_theme = 'basic'\nexclude_patterns = ['_build']\n"
    )
    figures = "\n\n".join(
        f"```{{moving-figure}} {name}\nNo script for *{name}*.\n```" for name in ("two-models", "sources")
    )
    (source / "both.md").write_text(f"# Both\n\n{figures}\n\n```{{toctree}}\nnone\nwrong\n```\n")
    (source / "none.md").write_text("# None\n")
    (source / "wrong.md").write_text("# Wrong\n\n```{moving-figure} three-models\n```\n")
    out = tmp_path_factory.mktemp("built")
    log = out / "log"
    assert build.main(["-q", "-E", "-b", "html", "-w", str(log), str(source), str(out / "html")]) == 0
    assert "moving-figure 'three-models'; expected one of two-models, sources" in log.read_text(encoding="utf-8")
    return out


def shown_sources():
    """The sources of the moving figure: one run on Tiny ImageNet whose distances were measured on every class."""
    records = published("vision")
    made = [name for name in records if "matched" in records[name].arrays and name.endswith("-seed1")]
    table = rows_of({name: records[name] for name in made})
    assert set(table["target"]) == {"tiny-imagenet-10"}
    return table.reset_index(drop=True)


def test_a_page_holds_its_figures_their_data_and_what_to_read_without_a_script(site):
    page = (site / "html" / "both.html").read_text(encoding="utf-8")
    for name in ("two-models", "sources"):
        assert f'data-figure="{name}"' in page
        assert f"No script for <em>{name}</em>." in page
        assert f"move/{name}.js" in page
    for name, colour in plots.COLOURS.items():
        assert f"--{name}: {colour}" in page
    assert "on" + "click" not in page
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    table = shown_sources()
    assert [row["alpha1"] for row in data["rows"]] == table["alpha1"].tolist()
    assert data["predictors"] == list(PREDICTORS)
    assert data["target"] == "Tiny ImageNet"
    assert set(data["markers"]) == set(table["label"])
    assert "move/" not in (site / "html" / "none.html").read_text(encoding="utf-8")


def test_the_markers_of_the_palette_have_outlines():
    script = (BOOK / "_static" / "move" / "sources.js").read_text(encoding="utf-8")
    outlines = re.search(r"OUTLINES = \{(.*?)\n  \};", script, re.DOTALL)[1]
    assert set(re.findall(r'^\s*"?([^":\s]+)"?:', outlines, re.MULTILINE)) == set(plots.MARKERS)


# ---- in a browser


@pytest.fixture
def page(site, browser) -> Browser:
    browser.size(1000, 900)
    browser.open(site / "html" / "both.html")
    browser.run(
        "new Promise(done => { const look = () => document.querySelector('.point') && document.querySelector('.handle')"
        " ? done(null) : setTimeout(look, 20); setTimeout(() => done(null), 10000); look(); })"
    )
    return browser


HANDLES = "[...document.querySelectorAll('.handle')]"


def shown(page: Browser) -> dict[str, float]:
    """What the figure says of the models that its handles say."""
    values = page.run("[...document.querySelectorAll('.readout .value')].map(cell => cell.textContent)")
    return dict(zip(("alpha1", "alpha2", "alpha12", "distance"), map(float, values), strict=True))


def told_models(page: Browser) -> tuple[np.ndarray, np.ndarray]:
    """The Jacobians (2, 2, 2) of both models, read off the handles as a screen reader has them."""
    texts = page.run(f"{HANDLES}.map(handle => handle.getAttribute('aria-valuetext'))")
    ends = [[float(number) for number in re.findall(r"-?[\d.]+", text)] for text in texts]
    columns = np.array(ends).reshape(2, 2, 2, 2)  # input, model, column, row
    return tuple(columns.transpose(1, 0, 3, 2))


def agrees(page: Browser) -> None:
    models = told_models(page)
    expected = by_library(*models)
    exact = page.run(f"Jacobians.compare(...{json.dumps([model.tolist() for model in models])})")
    for name, value in shown(page).items():
        assert exact[name] == pytest.approx(expected[name], abs=1e-6), name
        assert value == pytest.approx(exact[name], abs=6e-4), name  # three decimals


def test_the_ends_move_by_keyboard_and_the_numbers_follow(page):
    agrees(page)
    page.run("document.querySelector('.move select').focus()")
    for _ in range(4):  # past the box and the button, and the first end, to the second
        page.press("Tab")
    assert page.run(f"{HANDLES}.indexOf(document.activeElement)") == 1
    before, numbers = told_models(page)[0], shown(page)
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        page.press(key)
    page.press("ArrowUp", SHIFT)
    assert told_models(page)[0] - before == pytest.approx(np.array([[[0, 0.05], [0, 0.15]], np.zeros((2, 2))]))
    assert shown(page) != numbers
    agrees(page)
    for _ in range(20):
        page.press("ArrowLeft", SHIFT)
    assert told_models(page)[0][0, 0, 1] == -1.2  # and no further
    agrees(page)


def test_an_end_is_dragged_to_where_the_pointer_is(page):
    place = (
        f"(() => {{ const handle = {HANDLES}[2]; handle.scrollIntoView({{block: 'center'}});"
        "const box = handle.querySelector('.ring').getBoundingClientRect();"
        "const all = handle.ownerSVGElement.getBoundingClientRect();"
        "return [...[box, all].flatMap(b => [b.x + b.width / 2, b.y + b.height / 2]), all.width]; })()"
    )
    x, y, middle, height, width = page.run(place)
    page.drag((x, y), (middle - width / 4, height - width / 8))
    assert told_models(page)[1][0, :, 0] == pytest.approx([-0.8, 0.4], abs=0.02)  # the panel is 3.2 wide
    agrees(page)


def test_linear_models_are_the_same_everywhere_and_a_tie_has_no_first_attack(page):
    page.run("document.querySelector('.move input[type=checkbox]').click()")
    for model in told_models(page):
        assert np.array_equal(model[0], model[1])
    assert shown(page)["alpha2"] == 1
    page.run("document.querySelector('.move button').click()")
    swapped = told_models(page)
    page.run("document.querySelector('.move button').click()")
    assert np.array_equal(told_models(page)[0], swapped[1])
    page.run(
        "const select = document.querySelector('.move select');"
        "select.value = 'itself'; select.dispatchEvent(new Event('change'));"
        f"{HANDLES}[1].focus()"
    )
    page.press("ArrowUp", SHIFT)
    page.press("ArrowUp", SHIFT)
    assert page.run("[...document.querySelectorAll('.readout .value')].map(cell => cell.textContent)") == ["–"] * 3 + [
        "0.000"
        if by_library(*told_models(page))["distance"] < 5e-4
        else f"{by_library(*told_models(page))['distance']:.3f}"
    ]
    assert "no first attack" in page.run("document.querySelector('.told').textContent")


def test_the_source_models_by_keyboard_and_held_fixed(page):
    table = shown_sources()
    y, own = table["transfer_accuracy"], table["source_accuracy"]

    def said() -> float:
        text = page.run("document.querySelector('.score').textContent")
        return float(re.search(r": (−?[\d.]+) ", text)[1].replace("−", "-"))

    assert said() == pytest.approx(stats.spearmanr(table["alpha1"], y).statistic, abs=6e-3)
    page.run("document.querySelector('input[value=distance]').click()")
    assert said() == pytest.approx(stats.spearmanr(table["distance"], y).statistic, abs=6e-3)
    page.run("document.querySelector('.move[data-figure=sources] input[type=checkbox]').click()")
    xy, xz, yz = (
        stats.spearmanr(u, v).statistic for u, v in ((table["distance"], y), (table["distance"], own), (y, own))
    )
    assert said() == pytest.approx((xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5, abs=6e-3)
    page.run("document.querySelector('input[value=source_accuracy]').click()")
    assert page.run("document.querySelector('.move[data-figure=sources] input[type=checkbox]').disabled")
    assert page.run("document.querySelectorAll('.point[tabindex=\"0\"]').length") == 1
    page.run("document.querySelector('.point[tabindex=\"0\"]').focus()")
    for key, row in (("Home", own.idxmin()), ("ArrowRight", own.sort_values().index[1]), ("End", own.idxmax())):
        page.press(key)
        text = html.unescape(page.run("document.activeElement.getAttribute('aria-label')"))
        assert text == page.run("[...document.querySelectorAll('.told')].at(-1).textContent")
        assert f"{table['label'][row]}, width {table['width'][row]}" in text
        assert f"{100 * own[row]:.1f}% of its own images right" in text


def test_the_run_under_the_pointer_is_told(page):
    page.run("document.querySelector('.plot').scrollIntoView({block: 'center'})")
    for place in (3, 11):
        x, y, run = page.run(
            f"(() => {{ const point = document.querySelectorAll('.point')[{place}];"
            "const { x, y, width, height } = point.getBoundingClientRect();"
            "return [x + width / 2, y + height / 2, point.getAttribute('aria-label')]; })()"
        )
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        assert page.run("[...document.querySelectorAll('.told')].at(-1).textContent") == run


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_page_and_nothing_is_fetched(page, site, theme):
    page.size(390, 800)
    page.open(site / "html" / "both.html")
    page.run(f"document.documentElement.dataset.theme = '{theme}'")
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert (
        page.run("Math.min(...[...document.querySelectorAll('.reach')].map(c => c.getBoundingClientRect().width))")
        >= 24
    )
    assert page.run("performance.getEntriesByType('resource').every(entry => entry.name.startsWith('file:'))")
    ring, ground, point = page.run(
        "(() => { const of = (which, what) => getComputedStyle(document.querySelector(which))[what];"
        "return [of('.ring', 'stroke'), of('.ring', 'fill'), of('.point', 'stroke')]; })()"
    )
    assert contrast(ring, ground) >= 3
    assert contrast(point, ground) >= 3


def contrast(one: str, other: str) -> float:
    """The contrast of two rgb() colours, by WCAG 2.1."""
    light = []
    for colour in (one, other):
        c = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
        light.append(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
    return (max(light) + 0.05) / (min(light) + 0.05)
