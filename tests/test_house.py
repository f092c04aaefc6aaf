"""The rooms of the package: `ls`, the import contract, README, CONTRIBUTING and how-it-works are one list."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from conftest import ROOT

import pruninfersim

PACKAGE = Path(pruninfersim.__file__).parent
#: What a folder of Python holds beside its rooms.
FURNITURE = {"__init__", "__main__", "py", "__pycache__"}
#: Rooms that a reader takes in at a glance.
MOST = 22
#: Lines that a reader reads in one sitting.
SITTING = 400


def rooms() -> set[str]:
    return {path.stem for path in PACKAGE.iterdir()} - FURNITURE - {"hardware_profiles"}


def listed(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    block = re.search(r"<!-- house -->\n```text\n(.*?)\n```", text, re.S)
    assert block, f"{document} does not show the house"
    return [line.split()[0] for line in block.group(1).splitlines()]


def floors() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    return [room for layer in layers for room in layer.split(" | ")]


def test_one_list():
    assert sorted(floors()) == sorted(rooms())
    for document in ("README.md", "CONTRIBUTING.md", "docs/how-it-works.md"):
        assert listed(document) == floors(), document


def test_the_list_is_short_and_its_names_are_words():
    assert len(rooms()) <= MOST
    for room in rooms() - {"_util"}:
        assert re.fullmatch(r"[a-z]+", room), f"{room} is not one word"


def test_every_file_can_be_read_in_one_sitting():
    long = {
        path.relative_to(PACKAGE).as_posix(): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > SITTING
    }
    assert not long


def test_kernel_keys_are_spelled_in_the_catalogue_and_where_they_are_made_or_priced():
    """A key in another room is a table of keys that the catalogue should hold."""
    key = re.compile(r'"(gemm_2of4|token_gemm|mask_sort|block_score|block_index|qk_norm)"')
    allowed = {"ops.py", "pruning", "kernels", "stacks", "models", "measure", "calibration", "questions", "reproduce"}
    found = {
        path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py") if key.search(path.read_text("utf-8"))
    }
    assert found <= allowed
