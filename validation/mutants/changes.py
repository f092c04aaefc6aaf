"""Small changes to a Python file, each one of which a test should notice."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

#: What an operator is turned into.
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
#: Fields that never run, or that change nothing but speed and how a thing looks in a list of names.
SKIPPED = {"annotation", "returns", "decorator_list", "type_params"}
#: Assignments that only say what is public.
LISTS_OF_NAMES = {"__all__", "__dir__"}


class Mutant(NamedTuple):
    """One change: the text of a file between two places, and what stands there instead."""

    file: str
    line: int
    kind: str
    start: int
    end: int
    text: str
    #: First line of the statement that holds the change.
    statement: int
    #: Whether the change runs when a function is called, and not when the file is imported.
    inside: bool

    def applied(self, source: str) -> str:
        """Return the changed file."""
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.kind}"


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return every change to a file, in the order of the file."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for (node, kind, text), statement, inside in _changes(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        if source.encode()[start:end].decode() != text:
            found.append(Mutant(file, node.lineno, kind, start, end, text, statement, inside))
    return found


Change = tuple[ast.AST, str, str]


def _changes(node: ast.AST, statement: int = 1, inside: bool = False) -> Iterator[tuple[Change, int, bool]]:
    """Yield a node of the file, a kind of change and the text that stands for the node; its statement; when it runs."""
    if isinstance(node, ast.stmt):
        statement = node.lineno
    for change in _changes_here(node):
        yield change, statement, inside
    for name, value in ast.iter_fields(node):
        if name in SKIPPED:
            continue
        called = name == "body" and isinstance(node, ast.FunctionDef | ast.Lambda)
        children = value if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, ast.AST) and not _silent(child):
                yield from _changes(child, statement, inside or called)


def _silent(node: ast.AST) -> bool:
    """Whether what is inside a node is text for readers, types, or a list of what is public."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return True
        case ast.Constant(value=str(text)):
            return " " in text  # a message
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name in LISTS_OF_NAMES or (name[:1].isupper() and isinstance(node.value, ast.Subscript))
        case ast.FunctionDef(name=name):
            return name in ("__repr__", "__str__", "_repr_html_")
        case ast.ClassDef(bases=bases):
            return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in bases)
    return False


def _changes_here(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.BinOp(op=op) if type(op) in SWAPPED:
            yield _with(node, "operator", op=SWAPPED[type(op)]())
        case ast.BoolOp(op=op):
            yield _with(node, "operator", op=SWAPPED[type(op)]())
        case ast.Compare(ops=[op, *rest]) if type(op) in SWAPPED:
            yield _with(node, "comparison", ops=[SWAPPED[type(op)](), *rest])
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
            yield node, "sign", f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool(value)):
            yield node, "constant", str(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield node, "constant", repr(value + 1)
        case ast.Constant(value=str(value)) if value:
            yield node, "constant", repr(f"{value}X")
        case ast.Tuple(elts=[_, _, *_] as elts) | ast.List(elts=[_, *_] as elts) if _holds_values(node):
            yield _with(node, "dropped last", elts=elts[:-1])
            if len(elts) > 1:
                yield _with(node, "swapped first", elts=[elts[1], elts[0], *elts[2:]])
        case ast.Call(func=ast.Attribute(attr="asarray"), keywords=[]):
            return  # only tells a type checker what it is
        case ast.Call(args=[first, *_], keywords=keywords) if not isinstance(first, ast.Starred | ast.GeneratorExp):
            yield node, "dropped call", f"({ast.unparse(first)})"
            yield from _without_keywords(node, keywords)
        case ast.Call(keywords=keywords):
            yield from _without_keywords(node, keywords)
        case ast.Expr() | ast.Raise():
            yield node, "dropped statement", "pass"
        case ast.Return(value=ast.AST()):
            yield node, "dropped return", "return None"
        case ast.If(test=test) | ast.IfExp(test=test):
            yield test, "turned condition", f"(not ({ast.unparse(test)}))"
        case ast.comprehension(ifs=[test, *_]):
            yield test, "dropped filter", "True"


def _holds_values(node: ast.Tuple | ast.List) -> bool:
    """Whether a tuple or list is one of values: no target of an assignment, and no place in an array."""
    return isinstance(node.ctx, ast.Load) and not any(isinstance(item, ast.Slice) for item in node.elts)


def _without_keywords(node: ast.Call, keywords: list[ast.keyword]) -> Iterator[Change]:
    for i, keyword in enumerate(keywords):
        if keyword.arg:
            yield _with(node, "dropped keyword", keywords=keywords[:i] + keywords[i + 1 :])


def _with(node: ast.AST, kind: str, **fields: object) -> Change:
    """Return a copy of a node with other fields, as text."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return node, kind, f"({ast.unparse(changed)})"
