"""The documentation site in a real browser: it builds without a warning, plots draw, nothing loads from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_report_in_browser import BROWSER, BROWSERS

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("mkdocstrings", reason="needs the optional extra 'docs'")
pytest.importorskip("material", reason="needs the optional extra 'docs'")
pytestmark = pytest.mark.slow
NOTEBOOKS = sorted(path.stem for path in (ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_no_page_loads_from_another_host(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = re.sub(r"<script>.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        loads = re.findall(r'<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]*)"', text)
        assert loads == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?https?:", style.read_text(encoding="utf-8")), style.name


def test_examples_are_told_from_sections(site):
    text = (site / "reference" / "questions.html").read_text(encoding="utf-8")
    assert "Examples:" in text


@pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_plots_of_notebooks_draw(site, name, tmp_path):
    page = site / "notebooks" / f"{name}.html"
    wanted = page.read_text(encoding="utf-8").count("Plotly.newPlot(")
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}",
            "--window-size=1000,1400", "--virtual-time-budget=15000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    drawn = re.findall(r'class="js-plotly-plot"|class="main-svg"', done.stdout)
    assert drawn.count('class="js-plotly-plot"') == wanted
    assert drawn.count('class="main-svg"') >= 2 * wanted
