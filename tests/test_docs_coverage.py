"""Every public function and figure is shown to readers: an example in its docstring, a cell in an executed notebook."""

from __future__ import annotations

import ast
import doctest
import inspect
import json
from functools import cache
from types import FunctionType

import pytest
from conftest import ROOT

import pruninfersim as pis

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
#: Modules of `pruninfersim.__all__` that answer questions, and the function that a reader calls first in each.
MODULES = {"pareto": "curves", "plots": "roofline_figure", "report": "write_report"}


def public_functions() -> dict[str, FunctionType]:
    """Dotted name -> function: those of the package itself and those of the modules above."""
    found = {name: getattr(pis, name) for name in pis.__all__}
    for module in MODULES:
        home = getattr(pis, module)
        for name in getattr(home, "__all__", vars(home)):
            value = getattr(home, name)
            if not name.startswith("_") and getattr(value, "__module__", "").startswith(home.__name__):
                found[f"{module}.{name}"] = value
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


FUNCTIONS = public_functions()


def calls(code: str) -> set[str]:
    """Names of all functions that a piece of code calls, without the modules they are in."""
    nodes = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    names = [node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in nodes]
    return set(names) - {""}


def arguments(code: str, function: str) -> set[str]:
    """Names of the arguments that a piece of code gives to a function."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return {
        str(keyword.arg)
        for node in nodes
        if isinstance(node.func, ast.Attribute) and node.func.attr == function
        for keyword in node.keywords
    }


@cache
def cells() -> tuple[str, ...]:
    """Source of all cells of code that were executed: those that carry a number."""
    books = [json.loads(path.read_text(encoding="utf-8")) for path in NOTEBOOKS]
    executed = [cell for book in books for cell in book["cells"] if cell.get("execution_count")]
    return tuple("".join(cell["source"]) for cell in executed)


def example(function: FunctionType) -> str:
    return "".join(part.source for part in doctest.DocTestParser().get_examples(inspect.getdoc(function) or ""))


def test_the_functions_that_readers_come_for_are_among_them():
    questions = {"sweep", "break_even", "required_efficiency", "max_speedup", "suggest_width", "compare_hardware"}
    assert questions | {"explain", "speedup"} <= set(FUNCTIONS)
    assert {f"{module}.{name}" for module, name in MODULES.items()} <= set(FUNCTIONS)
    assert sum(name.endswith("_figure") for name in FUNCTIONS) >= 6


@pytest.mark.parametrize("name", FUNCTIONS)
def test_has_a_doctest_that_calls_it(name):
    assert name.split(".")[-1] in calls(example(FUNCTIONS[name])), f"{name} has no example in its docstring"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_has_a_cell_in_a_notebook(name):
    used = set().union(*(calls(cell) for cell in cells()))
    assert name.split(".")[-1] in used, f"no executed notebook below {NOTEBOOKS[0].parent} calls {name}"


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        ("sweep", {"models", "hardware", "stacks", "workloads", "methods", "sparsity", "rows", "executor", "out"}),
        ("sweep", {"progress"}),
        ("break_even", {"axis", "against", "between"}),
        ("compare_hardware", {"price_per_hour"}),
    ],
)
def test_notebooks_show_what_the_function_can_do(function, wanted):
    assert wanted <= set().union(*(arguments(cell, function) for cell in cells()))


def test_notebooks_show_every_axis_of_break_even():
    shown = [
        keyword.value.value
        for cell in cells()
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "break_even"
        for keyword in node.keywords
        if keyword.arg == "axis" and isinstance(keyword.value, ast.Constant)
    ]
    assert set(shown) == {"sparsity", "batch", "context"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_was_executed_from_top_to_bottom_without_errors(path):
    code = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"] == []
