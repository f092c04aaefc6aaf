"""The documentation site in a real browser: it builds without a warning, plots draw, nothing loads from elsewhere."""

from __future__ import annotations

import json
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
NEEDS_BROWSER = pytest.mark.skipif(
    BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)"
)
#: Opens page after page in a frame of a telephone's width, which no window of the browser may have, and measures them.
MEASURE = """<html><body><iframe id="frame" width="390" height="900"></iframe><script>
(async () => {
  const frame = document.getElementById("frame"), seen = {};
  for (const page of PAGES) {
    await new Promise(loaded => { frame.onload = loaded; frame.src = page; });
    await new Promise(done => setTimeout(done, 500));
    const inside = frame.contentDocument.documentElement;
    frame.contentWindow.scrollTo(10000, 0);
    seen[page] = [inside.clientWidth, inside.scrollWidth, frame.contentWindow.scrollX];
  }
  const out = document.createElement("script");
  out.type = "application/json";
  out.id = "probed";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
})();
</script></body></html>"""
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


def opened(page: Path, profile: Path, *more: str) -> str:
    """Return the document that a browser makes of a page, without a network."""
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
            "--window-size=1000,1400", *more, "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@NEEDS_BROWSER
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_plots_of_notebooks_draw(site, name, tmp_path):
    page = site / "notebooks" / f"{name}.html"
    wanted = page.read_text(encoding="utf-8").count("() => draw(")
    drawn = re.findall(
        r'class="js-plotly-plot"|class="main-svg"', opened(page, tmp_path, "--virtual-time-budget=15000")
    )
    assert drawn.count('class="js-plotly-plot"') == wanted
    assert drawn.count('class="main-svg"') >= 2 * wanted


@NEEDS_BROWSER
def test_no_page_scrolls_sideways_on_a_telephone(site, tmp_path):
    """Tables and code scroll in boxes of their own; the page as a whole is as wide as the screen."""
    pages = sorted(str(page.relative_to(site)) for page in site.rglob("*.html"))
    (site / "wide.html").write_text(
        "<html><body><div style='width:391px'>a page that does not fit</div></body></html>", encoding="utf-8"
    )
    probe = site / "probe.html"
    probe.write_text(MEASURE.replace("PAGES", json.dumps([*pages, "wide.html"])), encoding="utf-8")
    text = opened(probe, tmp_path, "--virtual-time-budget=300000", "--allow-file-access-from-files")
    found = re.search(r'<script type="application/json" id="probed">(.*?)</script>', text, flags=re.DOTALL)
    assert found, "the pages did not finish loading"
    seen = json.loads(found[1])
    wide = seen.pop("wide.html")
    assert wide[1] > wide[0], "a page that is too wide is not seen"
    assert len(seen) == len(pages) > 25
    assert {page: sizes for page, sizes in seen.items() if sizes[1] > sizes[0] or sizes[2] > 0} == {}
