"""Every submission gets its own points, and a perfect one beside it all of them. Needs bubblewrap."""

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


@pytest.mark.parametrize("sheet", sorted({case.sheet for case in CASES.values()}))
def test_nobody_gains_or_loses_a_point_by_what_another_hands_in(sheet, tmp_path):
    """Two at a time, and every second one is perfect."""
    cases = {f"{i:02} {name}": case for i, (name, case) in enumerate(CASES.items()) if case.sheet == sheet}
    for student, case in cases.items():
        write(solved(sheet), tmp_path / "submitted" / f"{student[:2]} beside.ipynb")
        content = case.content.encode("utf-8", "surrogatepass") if isinstance(case.content, str) else case.content
        (tmp_path / "submitted" / f"{student}.ipynb").write_bytes(content)
    limits = Limits(seconds=6, total_seconds=60)
    found = classes.grade_class(tmp_path, original(sheet), jobs=2, limits=limits)
    due = {student: case.due for student, case in cases.items()}
    due |= {f"{student[:2]} beside": most(sheet) for student in cases}
    wrong = {
        student: (points(found[student]), due[student], found[student]["notes"], found[student]["exercises"])
        for student in due
        if points(found[student]) != due[student]
    }
    assert wrong == {}
