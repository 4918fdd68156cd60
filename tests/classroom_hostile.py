"""Submissions that mean harm or are odd, with the points due: each must get them, and nobody beside it may lose any."""

import json
from typing import NamedTuple

import nbformat

from advtransfer.classroom import sheets
from classroom_cases import PGD, original, solved, stubbed


class Case(NamedTuple):
    """A submission to an assignment."""

    sheet: str
    content: str | bytes
    due: float | tuple[float, ...]
    """Its points; several where they depend on when its thread gets the processor."""


def answers(due: float | tuple[float, ...], *, sheet: str = "1-pgd", others: bool = True, **cells: str) -> Case:
    """The solution (or, without the others, a sheet without answers) in which `cells` are answered like this."""
    return Case(sheet, nbformat.writes((solved if others else stubbed)(sheet, **cells)), due)


def with_cell(due: float, source: str, *, place: int | None = None, sheet: str = "1-pgd", kind: str = "code") -> Case:
    """The solution with a cell of the student's own, in the end or at a place."""
    notebook = solved(sheet)
    cell = nbformat.v4.new_code_cell(source) if kind == "code" else nbformat.v4.new_markdown_cell(source)
    notebook.cells.insert(len(notebook.cells) if place is None else place, cell)
    return Case(sheet, nbformat.writes(notebook), due)


def changed(due: float, change, *, sheet: str = "1-pgd") -> Case:
    """The solution as JSON, after `change(cells by grade_id, notebook)`."""
    notebook = json.loads(nbformat.writes(solved(sheet)))
    change({cell["metadata"].get("nbgrader", {}).get("grade_id"): cell for cell in notebook["cells"]}, notebook)
    return Case(sheet, json.dumps(notebook), due)


FORGE = """
import json, os, sys
W = sys.modules["advtransfer.classroom.wire"]
def forge(value, arrays=(), body=b""):
    header = json.dumps({"value": value, "arrays": list(arrays)}).encode()
    return len(header).to_bytes(8, "big") + header + body
"""
PROJECT = "def project(x, delta, eps):\n    return (x + delta.clamp(-eps, eps)).clamp(0, 1) - x\n"
FDS = "[int(f) for f in os.listdir('/proc/self/fd') if int(f) > 2]"
HOG = "import os\nfor _ in range(6):\n    if os.fork() == 0:\n        while True: pass\n"
LYING = """
import numpy as np
class T(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None): return torch.zeros(4, 6)
class N(np.ndarray):
    def __array__(self, *a): return np.zeros(3)
    def __eq__(self, o): return True
class F(float):
    def __repr__(self): return "Infinity"
    def __eq__(self, o): return True
class L(list):
    def __iter__(self): return iter([{"tensor": 0}])
class S(str): pass
def project(x, delta, eps): return torch.zeros(4, 6).as_subclass(T)
def input_gradient(model, x, y): return np.zeros((5, 6)).view(N)
def pgd(*a): return F(3)
def pgd_l2(*a): return L([1, 2])
def success_curve(*a): return {S("function"): True}
"""
BYTE_CODE = """
import importlib.machinery, importlib.util, glob, advtransfer
path = glob.glob(list(advtransfer.__path__)[0] + "/**/attacks*.pyc", recursive=True)[0]
loader = importlib.machinery.SourcelessFileLoader("att", path)
A = importlib.util.module_from_spec(importlib.util.spec_from_loader("att", loader)); loader.exec_module(A)
def pgd_l2(model, x, y, eps, steps, step_size):
    return A.pgd(model, x, y=y, eps=eps, steps=steps, step_size=step_size, random_start=False, norm="l2")
"""


def known() -> dict[str, Case]:
    """What others have tried."""
    return {
        "reference bomb": answers(0, others=False, project=FORGE + """
def project(x, delta, eps):
    value = [{"array": 0}] * 1800 + [{"array": 1}]
    W.encode = lambda m: forge({"dict": [["value", value]]}, [["uint8", [2**20]], ["uint8", [1]]], bytes(2**20 + 1))
"""),
        "list of 100000": answers(13, pgd_l2="def pgd_l2(*a): return [i / 7 for i in range(100_000)]"),
        "uint8 of 64 MiB": answers(7, project="def project(*a): return torch.zeros(2**26, dtype=torch.uint8)"),
        "memfd": answers(13, pgd_l2="import os\nfor i in range(48): os.write(os.memfd_create(str(i)), b'x' * 2**20)"),
        "spinning": answers(0, others=False, project=HOG + "def project(*a):\n    while True: pass"),
        "lying objects": answers(0, others=False, project=LYING),
        "shape of huge numbers": answers(7, project=FORGE + """
def project(x, delta, eps):
    W.encode = lambda m: forge(1, [["float64", [int("9" * 4000)] * 8]])
"""),
        "infinite shape in a cell": answers(7, project=FORGE + "W.encode = lambda m: forge(1, [['float64', [1e999]]])"),
        "a byte each second": answers(13, pgd_l2=FORGE + f"""
def pgd_l2(*a):
    import time
    for byte in forge("x" * 1000):
        for fd in {FDS}:
            try: os.write(fd, bytes([byte]))
            except OSError: pass
        time.sleep(1)
"""),
        "answers ahead": answers(13, pgd_l2=FORGE + f"""
for fd in 30 * {FDS}:
    try: os.write(fd, forge({{"dict": [["function", True], ["value", 1.0]]}}))
    except OSError: pass
"""),
        "byte code": answers(13, pgd_l2=BYTE_CODE),
        "patched modules": answers(0, others=False, project="""
import builtins, json, os, sys, numpy
for module in (torch, numpy, json, os, builtins):
    for name in ("allclose", "equal", "isclose", "abs", "max", "dumps"):
        if hasattr(module, name): setattr(module, name, lambda *a, **k: True)
def project(*a):
    sys._getframe(1).f_locals["answer"] = {"points": 17}
    return True
""", pgd="def pgd(*a):\n    import os\n    os.kill(os.getppid(), 9); os.kill(-1, 9)",
            pgd_l2="def pgd_l2(*a):\n    import os\n    [os.close(fd) for fd in range(30)]"),
        "user namespace": answers(13, pgd_l2="""
import ctypes
def pgd_l2(*a):
    if ctypes.CDLL(None).unshare(0x10020000): raise OSError("no namespace")
    return torch.zeros(32, 6)
"""),
        "html": answers(7, project="raise ValueError('<script>alert(1)</script> \\u202e\\x1b[31m' + 'W' * 5000)"),
        "deep source": answers(7, project="x = " + "(" * 50_000),
        "NUL and half characters": answers(7, project="x = '\ud800'\x00"),
        "a million lines": answers(7, project="\n" * 10**6),
        "picture in a cell": with_cell(17, f"picture = '{'A' * 1_500_000}'", place=5),
        "display": answers(17, project=PROJECT.replace("    return", "    display(x)\n    return")),
        "shadowed later": with_cell(16, "d = torch.randn(5, 3)\nalpha1 = alpha1(d, 2 * d)", sheet="2-two-metrics"),
        "another training": with_cell(10, "import time\ntime.sleep(60)", sheet="4-reproduction"),
        "wide counterexample": answers(12, sheet="3-theorem", broken="""
def counterexample(): return torch.ones(1, 1, 1), torch.ones(1, 3000, 1)"""),
        "good counterexample": answers(15, sheet="3-theorem", broken="""
def counterexample(): return torch.eye(200)[None, :1], torch.eye(200)[None]"""),
        "wrong theorem": answers(4, sheet="3-theorem", distance="""
def gradient_distance(a, b):
    p, k = (a @ b.mT).mean(0), (b @ b.mT).mean(0)
    return (a - p @ torch.linalg.inv(k) @ b).norm() / a.norm()
""", ratio="def theorem_ratio(a, b): return 1 - gradient_distance(a, b) ** 2", broken="""
def counterexample():
    return 1e200 * torch.ones(1, 1, 2, dtype=torch.float64), torch.ones(1, 1, 2, dtype=torch.float64)
"""),
        "wrong metrics": answers(4, sheet="2-two-metrics", alpha1="""
def alpha1(d_ab, d_bb):
    r, p = d_ab.norm(dim=1), d_bb.norm(dim=1)
    return (r[r > 0] / p[r > 0]).mean()
""", alpha2="""
def alpha2(d_aa, d_ab):
    m = d_ab.norm(dim=1) > 0
    u, w = (d[m] / d[m].norm(dim=1, keepdim=True) for d in (d_aa, d_ab))
    return (u.T @ w / len(u)).norm()
""", pairs="def alpha2_by_pairs(d_aa, d_ab): return alpha2(d_aa, d_ab)", unbiased="""
def alpha2_squared_unbiased(d_aa, d_ab):
    n = len(d_aa)
    return max(0, (n * alpha2(d_aa, d_ab) ** 2 - 1) / (n - 1))
""", blind="""
def far_but_anywhere():
    d = 1e200 * torch.ones(2, 2, dtype=torch.float64)
    return d, d, d
same_way_but_short = far_but_anywhere
"""),
        "wrong effect": answers(0, sheet="5-project", paired_effect="""
def paired_effect(rows, knob, low, high, outcome):
    at = {v: {r['seed']: r['alpha1'] for r in rows if r['eps'] == v} for v in (low, high)}
    d = torch.tensor([at[high][s] - at[low][s] for s in range(6)]).double()
    return d.mean(), d.std() / 6 ** .5
"""),
    }  # fmt: skip


def own() -> dict[str, Case]:
    """Kinds that are not among them."""

    def l2(body: str, before: str = "", due: float | tuple[float, ...] = 13) -> Case:
        return answers(due, pgd_l2=f"{before}\ndef pgd_l2(*a):\n    {body}\n")

    return {
        "deaf to signals": l2("while True: pass", "import signal\nfor number in range(1, 32):\n"
                              "    if number not in (9, 19): signal.signal(number, signal.SIG_IGN)"),
        "a thread that writes": l2("threading.Thread(target=spam).start(); raise ValueError('first')", FORGE + f"""
import threading, time
def spam():
    for fd in 1000 * {FDS}:
        try: os.write(fd, forge({{"dict": [["value", 1.0], ["ticket", ""]]}}))
        except OSError: pass
""", (10, 13)),
        "another process answers": l2("if os.fork(): os.wait(), os._exit(0)\n    return torch.zeros(32, 6)",
                                      "import os"),
        "reads the requests": l2("return [os.read(fd, 10**6) for fd in FDS]", f"import os\nFDS = {FDS}"),
        "stops itself": l2("os.kill(os.getpid(), signal.SIGSTOP)", "import os, signal"),
        "replays a ticket": l2("return 0", FORGE + """
tickets, plain = [], W.encode
def encode(message):
    tickets.append(message.get("ticket"))
    return plain(message | {"ticket": tickets[0]})
W.encode = encode
""", 10),
        "smaller questions": answers(0, others=False, project=FORGE + """
plain = W.decode
def decode(*a, **k):
    request = plain(*a, **k)
    return request | ({"args": [0 * torch.zeros(1), 0, 0]} if "args" in request else {})
W.decode = decode
""" + PROJECT),
        "no builtins": answers(0, others=False, project="import builtins\nbuiltins.__dict__.clear()"),
        "no globals": answers(3, input_gradient="import sys\nsys.modules['__main__'].__dict__.clear()", pgd_l2="",
                            success_curve="", pgd=""),
        "endless words": l2("raise Sleepy()", "import time\n"
                            "class Sleepy(Exception):\n    def __str__(self): time.sleep(10**6)"),
        "words that fail": l2("raise Broken()", "class Broken(Exception):\n    def __str__(self): raise self"),
        "endless shape": l2("return Slow()", "class Slow(list):\n    def __iter__(self):\n        while True: yield 0"),
        "stack overflow": l2("return pgd_l2()", "import sys\nsys.setrecursionlimit(10**9)"),
        "list in itself": l2("return loop", "loop = []\nloop.append(loop)"),
        "nested 40 deep": l2("return value", "value = 1.0\nfor _ in range(40): value = [value]"),
        "5000 tensors": l2("return [torch.zeros(1)] * 5000"),
        "not a number": l2("return torch.full((32, 6), torch.nan)"),
        "infinite": l2("return torch.full((32, 6), torch.inf)"),
        "huge whole numbers": l2("return [10**4000] * 10"),
        "empty axes": l2("return torch.zeros(0, 2**26, 0)"),
        "other kinds of tensors": l2("return next(odd)", "odd = iter([torch.zeros(2).to_sparse(), torch.zeros(2) + 1j, "
                                     "torch.zeros(2, dtype=torch.bfloat16)] * 9)"),
        "texts for numbers": l2("return ['0.5'] * 192"),
        "keys that cannot be": l2("return {(1, 2): torch.zeros(1), None: 'x' * 900_000}"),
        "numbers that are equal to all": l2("return Same()", "class Same(float):\n    __eq__ = __le__ = __ge__ = "
                                            "lambda *a: True\n    __hash__ = None"),
        "shared memory": l2("raise MemoryError(held)", "import mmap\nheld = []\n"
                            "try:\n    while True: held.append(mmap.mmap(-1, 2**26))\n"
                            "except (OSError, MemoryError): held = len(held)"),
        "pipes and sockets": l2("return held", "import os, socket\nheld = []\ntry:\n    while True:\n"
                                "        held.append(socket.socketpair())\n        held[-1][0].setblocking(False)\n"
                                "        held[-1][0].send(bytes(10**6))\nexcept OSError: held = len(held)"),
        "another core": l2("return os.sched_setaffinity(0, range(64))", "import os"),
        "first in the queue": l2("return os.nice(-20)", "import os"),
        "all its limits": l2("return 0", "import resource\nfor what in range(16):\n"
                             "    try: resource.setrlimit(what, (-1, -1))\n    except (OSError, ValueError): pass\n"
                             "hoard = bytearray(2**33)"),
        "a test cell of its own": changed(13, lambda cells, notebook: (
            cells["pgd-l2"].update(source="pgd_l2 = None"),
            cells["test-pgd-l2"].update(source="pass"),
            cells["test-pgd-l2"]["metadata"]["nbgrader"].update(points=0, solution=True, grade=False))),
        "a test under an answer's name": changed(13, lambda cells, notebook: (
            cells["pgd-l2"].update(source="check = 1"), cells["pgd-l2"]["metadata"]["nbgrader"].update(
                grade_id="test-pgd-l2"))),
        "metadata of other types": changed(10, lambda cells, notebook: (
            cells["pgd"].update(metadata={"nbgrader": {"grade_id": ["pgd"]}}), cells["pgd"].update(source=""))),
        "20000 cells": changed(17, lambda cells, notebook: notebook["cells"].extend([dict(cells["pgd"])] * 20_000)),
        "deep JSON": Case("1-pgd", b'{"cells": ' + b"[" * 10**6, 0),
        "no room in JSON": Case("1-pgd", b'{"cells": [' + b"[]," * (2**23) + b"[]]}", 0),
        "compressed": Case("1-pgd", b"\x1f\x8b\x08" + bytes(1000), 0),
        "more than 32 MiB": Case("1-pgd", b" " * (2**25 + 1), 0),
        "UTF-16": Case("1-pgd", nbformat.writes(solved("1-pgd")).encode("utf-16"), 17),
    }  # fmt: skip


def honest() -> dict[str, Case]:
    """Students who have done nothing wrong."""

    def setup(cells, notebook):
        cells["setup"]["source"] += "\nimport math, itertools as it\n"
        cells["project"]["source"] = PROJECT.replace("return", "assert math.pi and it.count()\n    return")

    return {
        "an import in the first cell": changed(17, setup),
        "magics": with_cell(17, "%load_ext autoreload\n%matplotlib inline\n!pip list\nprices = !ls\n?print\n", place=3),
        "a timed cell": answers(17, project="%%time\n" + PROJECT),
        "a timed line": answers(17, pgd_l2=solved_cell("pgd-l2") + "\n%time answer = pgd_l2 and 1\nassert answer == 1"),
        "options of magics": with_cell(17, place=4, source=(
            "%timeit -n 10 -r 3 1 + 1\n%timeit -q 1\n%prun -s cumulative len('')\nx = %time 2 + 3\nassert x == 5\n"
            "%time y = 4\nassert y == 4\n" + PROJECT)),
        "a cell that is timed after a line": with_cell(17, "%%timeit -n 1 z = 5\nassert z + 1 == 6\n", place=4),
        "a captured cell": with_cell(17, "%%capture out\nprint(1)\n", place=4),
        "a magic in a function": answers(17, project="def project(x, delta, eps):\n    %time delta.clamp(-eps, eps)"
                                         "\n    return (x + delta.clamp(-eps, eps)).clamp(0, 1) - x"),
        "a shell cell": with_cell(17, "%%bash\nrm -rf /", place=4),
        "rich output": with_cell(17, place=4, source="from IPython.display import display, HTML\ndisplay(HTML('<b>'))"),
        "mended below": changed(17, lambda cells, notebook: (
            cells["pgd-l2"].update(source="def pgd_l2(*a): return None"),
            notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": solved_cell("pgd-l2")}))),
        "a helper at the end": changed(17, lambda cells, notebook: (
            cells["project"].update(source="def project(*a):\n    return helper(*a)"),
            notebook["cells"].append(
                {"cell_type": "code", "metadata": {}, "source": PROJECT.replace("project", "helper")}))),
        "no names": changed(17, lambda cells, notebook: [c.update(metadata={}) for c in notebook["cells"]]),
        "a loop that ends": with_cell(17, "import os\nos._exit(0)"),
        "PGD as a class": answers(17, pgd="class PGD:\n    def __call__(self, x_, *a):\n        return run(x_, *a)\n"
                                  + PGD.format(first="").replace("def pgd", "def run") + "pgd = PGD()"),
    }  # fmt: skip


def solved_cell(key: str) -> str:
    return next(c.source for c in solved("1-pgd").cells if c.metadata.get("nbgrader", {}).get("grade_id") == key)


def most(sheet: str) -> float:
    """The points that the tests of a sheet give."""
    return sum(exercise.points for exercise in sheets.exercises(original(sheet)) if not exercise.written)
