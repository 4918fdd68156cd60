"""Every submission gets its own points, and perfect ones among them all of theirs. Needs bubblewrap."""

import pytest

from advtransfer.classroom import classes, jail
from advtransfer.classroom.limits import Limits
from classroom_cases import original, solved, write
from classroom_hostile import honest, known, most, own

REFUSAL = jail.refusal()
pytestmark = pytest.mark.skipif(REFUSAL is not None, reason=f"no sandbox: {REFUSAL}")
CASES = known() | own() | honest()


def points(result):
    return sum(exercise["points"] for exercise in result["exercises"].values())


def told(result):
    return result["notes"] + [exercise["message"] for exercise in result["exercises"].values()]


@pytest.mark.parametrize("sheet", sorted({case.sheet for case in CASES.values()}))
def test_nobody_gains_or_loses_a_point_by_what_another_hands_in(sheet, tmp_path):
    """Two at a time, and every third one is perfect."""
    cases = {f"{i:02} {name}": case for i, (name, case) in enumerate(CASES.items()) if case.sheet == sheet}
    beside = [f"{student[:2]} beside" for student in list(cases)[::2]]
    for student in beside:
        write(solved(sheet), tmp_path / "submitted" / f"{student}.ipynb")
    for student, case in cases.items():
        content = case.content.encode("utf-8", "surrogatepass") if isinstance(case.content, str) else case.content
        (tmp_path / "submitted" / f"{student}.ipynb").write_bytes(content)
    found = classes.grade_class(tmp_path, original(sheet), jobs=2, limits=Limits(seconds=8))
    due = {student: case.due if isinstance(case.due, tuple) else (case.due,) for student, case in cases.items()}
    due |= dict.fromkeys(beside, (most(sheet),))
    wrong = [
        f"{student}: {points(found[student])} points, due {due[student]}: {told(found[student])}"
        for student in due
        if points(found[student]) not in due[student]
    ]
    assert not wrong, "\n".join(wrong)
    for student in cases:
        assert TOLD.get(student[3:], "") in " ".join(told(found[student])), student


TOLD = {
    "list of 100000": "expected at most 1 MiB",
    "picture in a cell": "expected at most 1 MiB",
    "uint8 of 64 MiB": "returned 67108864 numbers; expected at most 1048576",
    "5000 tensors": "there are 5000 arrays; expected at most 1000",
    "wide counterexample": "expected at most 300 outputs",
    "spinning": "the time was up after 8 s",
    "a byte each second": "the time was up after 8 s",
    "answers ahead": "wrote into the grader's pipe",
    "a thread that writes": "wrote into the grader's pipe",
    "mended below": "for what a later cell of your own defines",
    "no names": "work in the sheet itself",
    "memfd": "Operation not permitted",
    "user namespace": "no namespace",
    "wrong effect": "only some of the seeds were used",
    "deep source": "SyntaxError",
}
