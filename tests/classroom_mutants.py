"""Wrong answers by machine: a solution in which one thing is changed."""

import ast
import copy
from collections.abc import Iterator

OTHER = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.Eq: ast.NotEq, ast.BitAnd: ast.BitOr,
}  # fmt: skip
NAMES = {
    "max": "min", "min": "max", "argmax": "argmin", "argmin": "argmax", "mean": "sum", "sum": "mean", "std": "var",
    "pinv": "inv", "norm": "sum", "square": "abs", "sign": "exp", "corrcoef": "cov", "permutations": "combinations",
}  # fmt: skip


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Each variant of the code with the line that was changed, as it is now."""
    tree = ast.parse(source)
    count = sum(1 for _ in ast.walk(tree))
    for i in range(count):
        for kind in range(3):
            changed = copy.deepcopy(tree)
            node = list(ast.walk(changed))[i]
            if _change(changed, node, kind):
                ast.fix_missing_locations(changed)
                new = ast.unparse(changed)
                before = set(ast.unparse(tree).splitlines())
                yield new, "; ".join(line.strip() for line in new.splitlines() if line not in before)


def _change(tree: ast.Module, node: ast.AST, kind: int) -> bool:
    """Change a node in place, in the first, second or third way that there is for it; False if there is none."""
    match node:
        case ast.BinOp(op=op) if kind == 0 and type(op) in OTHER:
            node.op = OTHER[type(op)]()
        case ast.Compare(ops=[op, *_]) if kind == 0 and type(op) in OTHER:
            node.ops[0] = OTHER[type(op)]()
        case ast.Constant(value=bool(value)) if kind == 0:
            node.value = not value
        case ast.Constant(value=int(value) | float(value)) if kind < 2:
            node.value = value + 1 if kind == 0 else value * 2
            return node.value != value
        case ast.Attribute(attr=name) if kind == 0 and name in NAMES:
            node.attr = NAMES[name]
        case ast.Call(func=ast.Attribute(value=inner)) if kind == 0 and not isinstance(inner, ast.Name | ast.Attribute):
            return _replace(tree, node, inner)
        case ast.Call(keywords=[_, *_]) if kind == 1:
            node.keywords.pop()
        case ast.Call(args=[first, second, *rest]) if kind == 2:
            node.args = [second, first, *rest]
        case ast.UnaryOp(operand=inner) if kind == 0:
            return _replace(tree, node, inner)
        case ast.Assign() if kind == 0:
            return _replace(tree, node, ast.Pass())
        case ast.Tuple(elts=[first, second], ctx=ast.Load()) if kind == 0:
            node.elts = [second, first]
        case _:
            return False
    return True


def _replace(tree: ast.Module, old: ast.AST, new: ast.AST) -> bool:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
                return True
            if isinstance(value, list) and any(item is old for item in value):
                value[[item is old for item in value].index(True)] = new
                return True
    return False
