"""The report in a real browser: plots draw, hover works, nothing is asked of the network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cases import IGNORE_PROVENANCE

import pruninfersim as pis

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    IGNORE_PROVENANCE,
    pytest.mark.skipif(
        BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)"
    ),
]
#: Noted from the first moment: requests that the policy of the page stopped, and script errors.
EARLY = """<script>
window.probe = {blocked: [], errors: []};
document.addEventListener('securitypolicyviolation', e => probe.blocked.push(e.blockedURI));
window.addEventListener('error', e => probe.errors.push(String(e.message)));
</script>"""
#: After drawing: move the mouse over a marker of every plot, and note the text that appears.
LATE = """<script>
const hoverAll = async () => {
  const wait = ms => new Promise(done => setTimeout(done, ms));
  await wait(300);
  probe.plots = [];
  for (const plot of document.querySelectorAll('.js-plotly-plot')) {
    plot.scrollIntoView();
    await wait(50);
    const marks = plot.querySelectorAll(
      '.scatterlayer path.point, .barlayer .point path, .waterfalllayer .point path, .heatmaplayer image');
    if (!marks.length) throw new Error(`no marks in ${plot.id}`);
    const area = mark => mark.getBoundingClientRect().width * mark.getBoundingClientRect().height;
    const box = [...marks].reduce((a, b) => area(b) > area(a) ? b : a).getBoundingClientRect();
    const at = {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true, view: window};
    const target = plot.querySelector('.nsewdrag');
    for (const kind of ['mouseover', 'mousemove']) target.dispatchEvent(new MouseEvent(kind, at));
    await wait(250);
    const texts = [...plot.querySelectorAll('.hoverlayer .hovertext')].map(t => t.textContent);
    const shapes = plot.querySelectorAll('svg path').length;
    const right = plot.getBoundingClientRect().right;
    probe.plots.push({id: plot.id, marks: marks.length, shapes, hover: texts.join(' | '), right});
  }
};
window.addEventListener('load', async () => {
  await hoverAll().catch(error => probe.errors.push(String(error)));
  probe.requests = performance.getEntriesByType('resource').map(r => r.name).filter(name => !name.startsWith('data:'));
  probe.width = [document.documentElement.scrollWidth, window.innerWidth];
  const out = document.createElement('script');
  out.type = 'application/json';
  out.id = 'probed';
  out.textContent = JSON.stringify(probe);
  document.body.append(out);
});
</script>"""


def opened(page: str, folder: Path, width: int = 1000) -> tuple[str, dict]:
    """Open a page and return its DOM and what the probe saw."""
    file = folder / "page.html"
    start, end = page.replace("<head>", f"<head>{EARLY}", 1).rsplit("</body>", 1)
    file.write_text(f"{start}{LATE}</body>{end}", encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},1400", "--virtual-time-budget=30000", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r'<script type="application/json" id="probed">(.*?)</script>', done.stdout, flags=re.DOTALL)
    assert found, "the page did not finish loading"
    return done.stdout, json.loads(found[1])


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> tuple[str, dict]:
    page = pis.report.html_report(model="llama-3.1-8b", hardware="h100-sxm", stack="ideal")
    return opened(page, tmp_path_factory.mktemp("browser"))


def test_every_plot_is_drawn(seen):
    _, probe = seen
    assert probe["errors"] == []
    assert len(probe["plots"]) == 14
    for plot in probe["plots"]:
        assert plot["marks"] >= (1 if plot["id"].endswith("ranking") else 7), plot  # a heat map is one image
        assert plot["shapes"] > 20, plot


def test_hover_says_numbers(seen):
    _, probe = seen
    for plot in probe["plots"]:
        assert re.search(r"\d", plot["hover"]), plot
    said = {plot["id"]: plot["hover"] for plot in probe["plots"]}
    assert "bound" in said["c0-sparsity"]
    assert "FLOP/B" in said["c0-roofline"]
    assert "ms" in said["c0-breakdown"]


def test_the_page_is_no_wider_than_1000_pixels(seen):
    _, probe = seen
    needed, given = probe["width"]
    assert needed <= given == 1000
    assert max(plot["right"] for plot in probe["plots"]) <= 1000


def test_plots_are_no_wider_than_a_narrow_screen(tmp_path):
    """500 pixels: the least that the browser does without a window; legends go below the plots."""
    page = pis.report.html_report(stack="ideal", methods=["static-width"], workloads=pis.Workload.decode())
    _, probe = opened(page, tmp_path, width=500)
    assert probe["errors"] == []
    assert probe["width"][0] <= probe["width"][1] <= 500
    assert all(plot["right"] <= 500 for plot in probe["plots"]), probe["plots"]


def test_a_page_with_its_script_beside_it_draws_too(tmp_path):
    path = pis.report.write_report(
        tmp_path / "r.html", plotlyjs="directory", stack="ideal", methods=["static-width"],
        workloads=pis.Workload.decode(),
    )  # fmt: skip
    assert path.stat().st_size < 1e6 < (tmp_path / "plotly.min.js").stat().st_size
    _, probe = opened(path.read_text(encoding="utf-8"), tmp_path)
    assert probe["errors"] == probe["blocked"] == []
    assert len(probe["plots"]) == 7


def test_nothing_is_asked_of_the_network(seen):
    dom, probe = seen
    assert probe["requests"] == []
    assert probe["blocked"] == []
    body = re.sub(r"<script\b.*?</script>", "", dom, flags=re.DOTALL)
    assert re.findall(r'(?:src|href|action|data)\s*=\s*["\'](?:https?:)?//[^"\']*', body) == []
    assert "url(http" not in body


def test_the_probe_sees_a_request(tmp_path):
    """A page that loads something is found out, or the test above would mean nothing."""
    page = pis.report.html_report(methods=["static-depth"], workloads=pis.Workload.decode(), stack="ideal")
    _, probe = opened(
        page.replace("<main id=", "<img src='http://example.invalid/x.png' alt=''><main id=", 1), tmp_path
    )
    assert probe["blocked"] == ["http://example.invalid/x.png"]
