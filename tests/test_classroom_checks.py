"""The tests of the assignments: right answers pass, and each usual mistake is named."""

import re
from collections import Counter
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advtransfer.classroom import sheets
from advtransfer.classroom.checks import Mistake, theorem, two_metrics
from advtransfer.classroom.checks.answers import called, equal
from advtransfer.classroom.limits import SandboxError, Stopped, SubmissionError
from classroom_cases import NAMES, functions, original, solved
from classroom_mutants import mutants
from classroom_wrong import RIGHT, WRONG, function, l2, linf

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # numpy's, of tensors


def run_tests(name, names, cell=None):
    """The messages of the tests of a sheet, by `grade_id`; if a cell is given, only of those that use it directly."""
    told = {}
    for exercise in sheets.exercises(original(name)):
        if exercise.written or (cell and not any(f"({made}" in exercise.tests for made in defined(name, cell))):
            continue
        try:
            exec(exercise.tests, dict(names))
        except Exception as error:  # what builds on a wrong answer may stop with anything
            told[exercise.key] = str(error)
    return told


def answers(name):
    """The solutions of a sheet, by cell."""
    cells = [cell for cell in solved(name).cells if cell.cell_type == "code" and sheets.role(cell) == "answer"]
    return {cell.metadata.nbgrader.grade_id.replace("-", "_"): cell.source for cell in cells}


def defined(name, cell):
    return re.findall(r"^def (\w+)", answers(name)[cell], re.M)


@pytest.mark.parametrize("name", NAMES)
def test_the_solutions_pass_whatever_the_seed(name):
    names = functions(name)
    for seed in (0, 1, 2**32 - 1, names["seed"]):
        assert run_tests(name, names | {"seed": seed}) == {}


@pytest.mark.parametrize(("name", "styles"), RIGHT, ids=[f"{name}-{'-'.join(styles)}" for name, styles in RIGHT])
def test_a_right_answer_in_another_style_passes_whatever_the_seed(name, styles):
    names = functions(name, **styles)
    for seed in range(10, 16):
        assert run_tests(name, names | {"seed": seed}, next(iter(styles))) == {}


@pytest.mark.parametrize(
    ("name", "cell", "answer", "message"), WRONG, ids=[f"{w[0]}-{w[1]}-{w[3]}".replace(" ", "-") for w in WRONG]
)
def test_a_mistake_is_named_and_costs_the_same_whatever_the_seed(name, cell, answer, message):
    names, failed = functions(name, **{cell: answer}), set()
    for seed in (3, 4, 5, 2**31 + 7):
        told = run_tests(name, names | {"seed": seed}, cell)
        assert any(message in text for text in told.values()), told
        failed.add(frozenset(told))
    assert len(failed) == 1


def test_every_exercise_has_six_kept_mistakes():
    kept = Counter((name, cell) for name, cell, *_ in WRONG)
    assert {(name, cell) for name in NAMES for cell in answers(name) if kept[name, cell] < 6} == set()


EQUAL = {  # what a change of the solution may leave right, by cell
    "input_gradient": r"detach\(\)",  # without a copy
    "pgd": "step_size / ascent",  # signs
    "success_curve": r"mean\(\)\)$|eps, (11|20), eps / 4",  # a tensor; PGD has converged
    "alpha2": r"\(d_ab, d_aa\)|normalize\(d\)",  # α2 is symmetric; 1 is the default dim
    "pairs": r"\(d_ab, d_aa\)",
    "unbiased": r"\(d_ab, d_aa\)",
    "alpha12": r"\(d_ab, d_aa\)",
    "blind": "",  # another example
    "jacobian": r"detach\(\)|retain_graph=2",
    "distance": r"pinv\(k\)|hermitian=False",
    "ratio": r"pinv\(k\)|hermitian=False|length, 2\)|moved.norm\(\)$",  # the length cancels
    "broken": "",
    "rank_correlation": r"rankdata\(y\), rankdata\(x\)|\[1, 0\]",
    "permutation_p": r"\(y, x\)|\(y, np.array|> observed - 1e-09|2e-09",
    "interval": r"\(y\[row\], x\[row\]\)|> 2 <|> 1 < len\(set\(y\[row\]\)\)",  # two values of twelve never come
    "paired_effect": r"seed in seeds\]\)$|keys\(\) \||\(high, low\)\}|at\[low\] &|& at\[high\]\)",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_with_one_thing_changed_fails(name):
    """324 changes, of which 50 leave the answer right."""
    survived = [
        (cell, line)
        for cell, source in answers(name).items()
        for changed, line in mutants(source)
        if not _fails(name, cell, changed)
    ]
    assert [(cell, line) for cell, line in survived if not re.search(EQUAL.get(cell, "(?!)"), line)] == []


def _fails(name, cell, answer):
    try:
        names = functions(name, **{cell: answer})
    except Exception:  # the cell itself stops
        return True
    return bool(run_tests(name, names | {"seed": 3}, cell))


def with_own(answer, eps, step_size):
    return answer.replace("    delta = torch", f"    eps, step_size = {eps}, {step_size}\n    delta = torch", 1)


@pytest.mark.parametrize(("name", "cell", "answer"), [
    ("1-pgd", "pgd", with_own(linf(), 0.1, 0.04)),
    ("1-pgd", "pgd_l2", with_own(l2(), 0.3, 0.12)),
    ("4-reproduction", "permutation_p", function("permutation_p(x, y)", (
        "o = [rank_correlation(np.array(p), y) for p in itertools.permutations(x.tolist())]\n"
        "return (np.abs(o) >= abs(rank_correlation(x, y)) - 1e-9).sum() / 120"))),
])  # fmt: skip
def test_an_answer_that_has_numbers_of_its_own_in_place_of_those_given_fails(name, cell, answer):
    for seed in (3, 4):
        assert run_tests(name, functions(name, **{cell: answer}) | {"seed": seed}, cell)


def test_a_failure_of_the_machine_or_the_end_of_the_time_is_no_mistake():
    for error in (OSError(24, "Too many open files"), MemoryError(), Stopped("time"), SandboxError("none")):
        with pytest.raises(type(error)):
            called("hint", "f", Mock(side_effect=error))
    with pytest.raises(Mistake, match="f stopped"):
        called("hint", "f", Mock(side_effect=SubmissionError("no")))


def test_a_counterexample_with_a_sample_that_cannot_be_moved_is_taken():
    b = torch.cat([torch.eye(4), torch.zeros(4, 4)], 1).repeat(2, 1, 1).double()
    a = b[:, :1].clone()
    a[1], b[1] = 0, 0
    theorem.broken(lambda: (a, b))  # R is 1, and the printed form 1/4


@pytest.mark.parametrize("small", [1e-8, 1e-12])
def test_a_small_number_in_the_denominator_passes_whatever_the_seed(small):
    def alpha1(d_ab, d_bb):
        return (d_ab.norm(dim=1) / (d_bb.norm(dim=1) + small)).mean()

    for seed in range(100):
        two_metrics.first(alpha1, seed=seed)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_an_answer_in_single_precision_is_right_and_one_per_mille_off_is_not(seed, scale):
    right = scale * torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    equal("f", right.float(), right, {})
    for wrong in (right + 1e-3 * max(1, scale), right[:, :2], right * float("nan"), "text", {}, None):
        with pytest.raises(Mistake):
            equal("f", wrong, right, {})
