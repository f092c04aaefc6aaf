"""What a user sees of the package before asking it anything: its names, its version, and how fast it loads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import ROOT

import pruninfersim

HEAVY = ("pandas", "scipy", "plotly", "typer", "torch")
#: Functions and classes that the documentation builds on.
PROMISED = (
    "ModelConfig",
    "Workload",
    "attention_latency",
    "calibrate",
    "compare",
    "estimate",
    "explain",
    "gemm_latency",
    "read_timings",
    "speedup",
    "sweep",
    "trace",
)


def run_python(code: str) -> str:
    """Return what `code` prints in a new interpreter that starts outside the repository's root."""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_no_heavy_dependency():
    loaded = json.loads(run_python("import json, sys, pruninfersim; print(json.dumps(sorted(sys.modules)))"))
    assert "pruninfersim" in loaded
    assert [name for name in loaded if name in HEAVY] == []


def test_dir_shows_the_public_names_only():
    assert dir(pruninfersim) == sorted(pruninfersim.__all__)
    assert len(set(pruninfersim.__all__)) == len(pruninfersim.__all__)


def test_every_public_name_exists():
    missing = [name for name in pruninfersim.__all__ if not hasattr(pruninfersim, name)]
    assert missing == []


def test_lazy_names_survive_a_star_import():
    names = json.loads(run_python("from pruninfersim import *; import json; print(json.dumps(sorted(globals())))"))
    assert set(pruninfersim.__all__) <= set(names)


def test_the_promised_interface_is_public():
    assert set(PROMISED) - set(pruninfersim.__all__) == set()


def test_functions_are_not_hidden_by_modules_of_the_same_name():
    # The import system sets a submodule as attribute of its package, which would hide a function such as trace().
    code = """
import importlib, inspect, pkgutil, pruninfersim as pis
for info in pkgutil.iter_modules(pis.__path__):
    if info.name not in ("__main__", "measure"):
        importlib.import_module(f"pruninfersim.{info.name}")
shown = [getattr(pis, name, None) for name in sorted(pis.__all__)]
print(*[value.__name__ for value in shown if inspect.ismodule(value)])
"""
    modules = {name.removeprefix("pruninfersim.") for name in run_python(code).split()}
    assert modules & set(PROMISED) == set()


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pruninfersim.no_such_name


def test_version_is_the_changelogs_newest():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, flags=re.MULTILINE)
    assert released, "CHANGELOG.md has no heading such as '## [0.1.0]'"
    assert version("pruninfersim") == released[0]


def test_version_is_the_citations():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)$", citation, flags=re.MULTILINE) == [version("pruninfersim")]


def test_type_information_is_shipped():
    assert (Path(pruninfersim.__file__).parent / "py.typed").is_file()
