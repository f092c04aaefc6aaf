"""The report: one file, every section, numbers that equal the library's, and no way in for markup."""

from __future__ import annotations

import os
import re
import stat
from html.parser import HTMLParser

import pytest
from cases import FAMILIES, IGNORE_PROVENANCE, STACKS
from toy import toy

import pruninfersim as pis
from pruninfersim.errors import InvalidInputError, UnknownNameError
from pruninfersim.report import html_report, write_report

pytestmark = IGNORE_PROVENANCE
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """Elements, ids and text of a page; complains about elements that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[key] for key in ("href", "src") if key in given]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data


@pytest.fixture(scope="module")
def page() -> str:
    return html_report(stack=toy("l40s"), hardware="l40s")


def test_sections_and_figures(page):
    outline = Outline(page)
    assert [
        h for h in outline.headings if h in ("Summary", "Speedups", "Assumptions", "Provenance", "Input and versions")
    ]
    assert outline.headings[0] == "Pruning llama-3.1-8b on NVIDIA L40S"
    for case, phase in (("c0", "Prefill"), ("c1", "Decode")):
        assert any(heading.startswith(phase) for heading in outline.headings)
        for figure in ("sparsity", "breakdown", "waterfall", "roofline", "batch", "context", "ranking"):
            assert f"{case}-{figure}" in outline.ids
    assert len(outline.ids) == len(set(outline.ids))
    assert {link.removeprefix("#") for link in outline.links if link.startswith("#")} <= set(outline.ids)


def test_one_plotly_and_no_outside_link(page):
    assert page.count("plotly.js of plotly.py") == 1
    assert all(link.startswith(("#", "data:")) for link in Outline(page).links)
    assert "default-src 'none'" in page


def test_numbers_are_those_of_the_library(page):
    rows = {row[0]: row for row in Outline(page).rows if len(row) == 13}
    assert set(rows) == {"method", "dense", *FAMILIES}
    decode = pis.Workload.decode(16, 1024)  # the last table of the two
    dense = pis.trace("llama-3.1-8b", decode)
    for name in FAMILIES:
        result = pis.compare(dense, dense.prune(pis.pruning.get(name, 0.5)), hardware="l40s", stack=toy("l40s"))
        row = rows[name]
        low, high = result.interval
        assert row[2] == f"{result.estimated:.2f}"
        assert row[3] == f"{low:.2f}\xa0to\xa0{high:.2f}"
        four = (result.headroom, result.bound, result.ideal, result.flops, result.claim)
        assert row[4:9] == [f"{x:.2f}" for x in four]
        assert row[9] == f"{result.pruned.latency * 1e3:.3g}"


def test_waterfall_table_adds_up(page):
    rows = [row for row in Outline(page).rows if len(row) == 11 and row[0] in FAMILIES]
    assert len(rows) == 2 * len(FAMILIES)
    for row in rows:
        *steps, estimate = map(float, row[1:])
        assert sum(steps) == pytest.approx(estimate, abs=0.06)


def test_provenance_lists_every_kernel(page):
    rows = {row[0]: row for row in Outline(page).rows if len(row) == 7}
    dense = pis.trace("llama-3.1-8b", pis.Workload.prefill(1, 2048))
    assert set(dense.kernel) <= set(rows)
    assert rows["gemm"][2] == "calibrated"
    assert rows["gemm"][5:] == ["-8% to +13%", "made up"]


def test_the_same_question_gives_the_same_page():
    options = {"methods": ["low-rank"], "stack": "ideal", "workloads": pis.Workload.decode()}
    assert html_report(**options) == html_report(**options)


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack(stack):
    text = html_report(stack=stack, hardware="rtx-pro-6000", workloads=pis.Workload.prefill(1, 512))
    assert f"stack {stack}" in text


def test_names_are_escaped():
    evil = "<script>alert('x')</script>&\"</script><b>"
    model = pis.models.get("llama-3.2-1b").clone(evil)
    gpu = pis.hardware.get("l40s").clone(evil, title=evil)
    text = html_report(model=model, hardware=gpu, methods=["static-depth"], stack="ideal")
    assert evil not in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    body = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "alert(" in body
    Outline(text)


def test_a_method_that_cannot_is_left_out_and_said():
    text = html_report(sparsity=0.6, stack="ideal", workloads=pis.Workload.decode())
    assert "semi-structured is left out" in text
    base = pis.hardware.get("h100-sxm")
    fields = {name: getattr(base, name) for name in type(base).model_fields}
    gpu = pis.HardwareProfile(**(fields | {"name": "no-sparse", "peak_2of4": {}, "sources": {}}))
    text = html_report(hardware=gpu, stack="ideal", workloads=pis.Workload.decode())
    assert "semi-structured is left out" in text
    assert "no 2:4 sparse peak" in text


def test_written_in_one_step(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    options = {"methods": ["static-depth"], "stack": "ideal", "workloads": pis.Workload.decode()}
    assert write_report(path, **options) == path
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(InvalidInputError, match="No space"):
        write_report(path, methods=["static-depth"], stack="ideal", workloads=pis.Workload.decode())
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"methods": ["static-widht"]}, UnknownNameError, "Did you mean 'static-width'"),
        ({"model": "llama-3.1-9b"}, UnknownNameError, "Did you mean"),
        ({"hardware": "h100-sxn"}, UnknownNameError, "Did you mean"),
        ({"sparsity": 1.0}, InvalidInputError, "sparsity"),
        ({"methods": []}, InvalidInputError, "at least one"),
        ({"methods": ["semi-structured"], "sparsity": 0.7}, InvalidInputError, "no method is left"),
        ({"workloads": pis.Workload.decode([1, 2])}, InvalidInputError, "sweep"),
        ({"workloads": []}, InvalidInputError, "workload"),
    ],
)
def test_wrong_input_is_named(options, error, words):
    with pytest.raises(error, match=words):
        html_report(**({"stack": "ideal"} | options))


def test_a_directory_that_does_not_exist(tmp_path):
    with pytest.raises(InvalidInputError, match="directory that exists"):
        write_report(tmp_path / "no" / "report.html", methods=["static-depth"], stack="ideal")


def test_the_summary_says_first_whether_it_fits():
    """Llama-3.1-405B: 405.853e9 parameters of 2 bytes."""
    one = {"stack": "ideal", "methods": ["static-width"], "workloads": pis.Workload.decode(1, 4096)}
    large = pis.report.html_report(model="llama-3.1-405b", hardware="rtx-4090", **one)
    assert "Dense does not fit: 811.7 GB of weights" in large
    assert "on 24 GB. No method of this page makes it fit." in large
    assert "It fits with static-width." in pis.report.html_report(model="llama-2-13b", hardware="rtx-4090", **one)
    assert "Dense fits: 16.06 GB of weights" in pis.report.html_report(hardware="h100-sxm", **one)


def test_a_page_says_so_where_scripts_are_off():
    assert "<noscript>" in pis.report.html_report(stack="ideal", methods=["static-depth"])


def test_plotly_is_in_the_page_or_beside_it(tmp_path):
    with pytest.raises(UnknownNameError, match="plotlyjs 'cdn'"):
        pis.report.write_report(tmp_path / "r.html", plotlyjs="cdn")
    assert list(tmp_path.iterdir()) == []
