"""The explorer in a real browser: what a reader sees, types, clicks, uploads and takes away."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from driving import BROWSER, BROWSERS, Browser

pytest.importorskip("dash", reason="needs the optional extra 'app'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)"
    ),
]
STATUS = "document.querySelector('#status')?.textContent"
DRAWN = "document.querySelector('#ops table') && document.querySelector('#figure .main-svg')"
READY = f"{STATUS}?.includes('times as fast') && {DRAWN}"
SMALL = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8,
    "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32000,
}  # fmt: skip
#: What a figure shows when it has noticed the pointer over one of its points.
HOVERED = "#figure .hoverlayer .hovertext"
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def served():
    from pruninfersim.app import program

    server = program.server(port=0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def opened(browser, served):
    browser.open(served)
    browser.wait(READY)
    return browser


#: The default as the page shows it, but for the prompt, which tells one return to it from the next.
DEFAULT = """
document.querySelector('#results').className === 'results' && document.querySelector('#prompt').value === window.turn
&& document.querySelector('#methods-table').innerText.includes(`${window.turn} + 128 tokens`)
&& document.querySelector('#python').innerText === window.first
&& [...document.querySelectorAll('.error')].every(place => !place.innerText)
&& document.querySelector('#caption').innerText.startsWith('The first bar')
"""


@pytest.fixture
def page(opened, served):
    """The page as it opens; a page that is open goes back there as the back button does, which is much faster."""
    if not opened.run("location.href").startswith(served) or not opened.run("window.first"):
        opened.open(served)
        opened.wait(READY)
        opened.run("window.first = document.querySelector('#python').innerText")
        return opened
    opened.run(
        "window.turn = window.turn === '1025' ? '1024' : '1025', "
        "history.replaceState({}, '', window.turn === '1025' ? '/?prompt=1025' : '/'), "
        "void dispatchEvent(new PopStateEvent('popstate'))"
    )
    opened.wait(DEFAULT.strip().replace("\n", " "))
    opened.wait(READY)
    return opened


def text(page, selector: str) -> str:
    return page.run(f"document.querySelector({json.dumps(selector)})?.innerText || ''")


def address(page) -> str:
    return page.run("location.search")


def until_address(page, part: str) -> None:
    page.wait(f"decodeURIComponent(location.search).includes({json.dumps(part)})")


def choose(page, dropdown: str, option: str) -> None:
    """Choose an option of a dropdown with the keyboard, as its search field is there for."""
    page.run(f"document.querySelector('#{dropdown}').focus()")
    page.press("Enter", 13)
    page.wait("document.querySelector('.dash-dropdown-search')")
    page.type(".dash-dropdown-search", option)
    options = "[...document.querySelectorAll('.dash-dropdown-option')]"
    label = f"{options}.find(e => e.textContent.trim() === {json.dumps(option)})"
    page.wait(f"!!{label}")
    page.run(f"{label}.click()")
    page.press("Escape", 27)


def test_first_paint(opened, served):
    page = opened
    assert page.errors() == []
    assert re.search(r"static-width@0.5 on h100-sxm: 1\.\d+ times as fast", text(page, "#status"))
    assert page.run("document.querySelectorAll('#headline dt').length") == 6
    assert page.run("document.querySelectorAll('#figure .waterfalllayer .point').length") >= 9
    for word in ("headroom", "TTFT", "semi-structured@0.5"):
        assert word in text(page, "#methods-table")
    assert "runs today" in text(page, "#notes")
    assert "gate_up" in text(page, "#ops")
    assert all(each.startswith((served, "data:", "blob:", "about:")) for each in page.requests())
    assert page.run("document.querySelector('.modebar').innerText").lower().count("share") == 0


def test_the_page_asks_nobody_else(page, served):
    """A picture from elsewhere is neither asked for by the page nor let through by its policy."""
    page.run("document.addEventListener('securitypolicyviolation', e => window.stopped = e.blockedURI)")
    page.run("void document.body.insertAdjacentHTML('beforeend', '<img src=\"http://example.invalid/x.png\">')")
    assert page.wait("window.stopped").startswith("http://example.invalid")


@pytest.mark.parametrize(
    ("field", "value", "part", "seen"),
    [
        ("batch", "16", "batch=16", "batch 16"),
        ("context", "8k", "context=8192", "context 8192"),
        ("model", "Qwen/Qwen3-14B", "model=qwen3-14b", ""),
        ("sparsity-0", "25%", "methods=static-width@0.25", "static-width@0.25"),
        ("mlp-0", "0.6", "methods=static-width@0.5/0.6", "static-width@0.5/0.6"),
    ],
)
def test_fields_change_the_answer_and_the_link(page, field, value, part, seen):
    before = text(page, "#headline")
    page.type(f"#{field}", value)
    until_address(page, part)
    page.wait(f"document.querySelector('#headline').innerText !== {json.dumps(before)}")
    page.wait(f"document.querySelector('#ops').innerText.includes({json.dumps(seen)})")


@pytest.mark.parametrize(
    ("field", "value", "part"), [("prompt", "512", "prompt=512"), ("new_tokens", "64", "new_tokens=64")]
)
def test_the_request_has_fields_of_its_own(page, field, value, part):
    before, head = text(page, "#methods-table"), text(page, "#headline")
    page.type(f"#{field}", value)
    until_address(page, part)
    assert text(page, "#methods-table") != before
    assert text(page, "#headline") == head


@pytest.mark.parametrize(
    ("dropdown", "option", "part"),
    [
        ("stack", "vllm", "stack=vllm"),
        ("dtype", "fp8", "dtype=fp8"),
        ("gpus", "rtx-4090", "gpus=rtx-4090"),
        ("method-1", "low-rank", "methods=low-rank@0.5"),
    ],
)
def test_choices_change_the_answer_and_the_link(page, dropdown, option, part):
    before = page.run("document.querySelector('#results').innerText")
    choose(page, dropdown, option)
    until_address(page, part)
    page.wait(f"document.querySelector('#results').innerText !== {json.dumps(before)}")


def test_phase_and_mixture(page):
    page.click("#phase label:nth-of-type(2)")
    until_address(page, "phase=decode")
    page.click("#join-1 label:nth-of-type(2)")
    until_address(page, "methods=static-width@0.5+semi-structured@0.5")
    page.wait(f"{STATUS}.startsWith('static-width@0.5+semi-structured@0.5')")


@pytest.mark.parametrize(
    ("view", "marks"),
    [("sparsity", ".scatterlayer .point"), ("roofline", ".scatterlayer .point"), ("map", ".heatmaplayer image"),
     ("gpus", ".barlayer .point"), ("pareto", ".scatterlayer .point")],
)  # fmt: skip
def test_every_figure_is_drawn(page, view, marks):
    page.run(f"document.querySelector('#view input[value={view}]').click()")
    until_address(page, f"view={view}")
    page.wait(f"document.querySelectorAll('#figure {marks}').length > 0")
    assert page.errors() == []


def test_a_link_brings_everything_back(browser, served):
    link = "?model=qwen3-14b&gpus=l40s&stack=vllm&dtype=fp8&phase=decode&batch=8&context=4096&prompt=512&new_tokens=64"
    link += "&methods=static-depth@0.25%2Bstatic-width@0.2/0.4&methods=low-rank@0.3&view=map"
    browser.open(served + link)
    browser.wait(READY)
    browser.wait("document.querySelector('#figure .heatmaplayer image')")
    assert address(browser) == link
    values = browser.run(
        "['model','batch','context','prompt','new_tokens','sparsity-0','sparsity-1','mlp-1','sparsity-2']"
        ".map(id => document.getElementById(id).value)"
    )
    assert values == ["qwen3-14b", "8", "4096", "512", "64", "0.25", "0.2", "0.4", "0.3"]
    assert [text(browser, f"#{name}") for name in ("stack", "dtype", "method-0", "method-1", "method-2")] == [
        "vllm", "fp8", "static-depth", "static-width", "low-rank",
    ]  # fmt: skip


def test_wrong_links_are_told_beside_the_field(browser, served):
    browser.open(served + "?batch=none&gpus=h100-smx&model=/etc/passwd.json&colour=red&methods=low-rnak@0.5")
    browser.wait(READY)
    assert "not a whole number" in text(browser, "#error-batch")
    assert "Did you mean 'h100-sxm'?" in text(browser, "#error-gpus")
    assert "no file is opened" in text(browser, "#error-model")
    assert "colour" in text(browser, "#error-link")
    assert "Did you mean 'low-rank'?" in text(browser, "#error-methods")
    assert browser.errors() == []


@pytest.mark.parametrize(
    ("field", "value", "error", "says"),
    [
        ("batch", "0", "batch", "at least 1"),
        ("context", "a few", "context", "not a whole number"),
        ("model", "lama-3.1-8b", "model", "Did you mean 'llama-3.1-8b'?"),
        ("sparsity-1", "0.75", "methods-1", "0.5"),
        ("sparsity-0", "1.5", "methods-0", "[0, 1)"),
    ],
)
def test_wrong_input_is_told_beside_the_field_until_it_is_right(page, field, value, error, says):
    answer = text(page, "#headline")
    good = page.run(f"document.getElementById('{field}').value")
    page.type(f"#{field}", value)
    page.wait(f"document.querySelector('#error-{error}').innerText.includes({json.dumps(says)})")
    page.wait(f"{STATUS}.startsWith('Not answered')")
    assert text(page, "#headline") == answer  # which the page greys
    page.type(f"#{field}", good)
    page.wait(f"document.querySelector('#error-{error}').innerText === '' && {STATUS}.includes('times as fast')")


def test_what_a_gpu_cannot_do_is_told_beside_the_choice(browser, served):
    browser.open(served + "?gpus=v100-sxm-16gb&dtype=fp8")
    browser.wait("document.querySelector('#error-dtype').innerText.includes('no peak')")
    browser.open(served + "?gpus=v100-sxm-16gb&dtype=fp16&methods=semi-structured@0.5")
    browser.wait("document.querySelector('#error-methods-0').innerText.includes('v100')")


def test_uploads(page, tmp_path):
    good, large, broken = (tmp_path / name for name in ("small.json", "large.json", "broken.json"))
    good.write_text(json.dumps(SMALL))
    large.write_text(json.dumps(SMALL | {"padding": "x" * 1_100_000}))
    broken.write_text("{")
    page.upload("#upload-config", broken)
    page.wait("document.querySelector('#error-config').innerText.includes('not valid JSON')")
    page.upload("#upload-config", good)
    page.wait("document.querySelector('#uploaded-config').innerText === 'In use: small'")
    until_address(page, "config=")
    link = page.run("location.href")
    numbers = text(page, "#headline")
    page.upload("#upload-config", large)
    page.wait("document.querySelector('#error-config').innerText.includes('larger than 1000 kB')")
    assert text(page, "#uploaded-config") == "In use: small"
    page.open(link)
    page.wait(READY)
    assert text(page, "#headline") == numbers
    page.click("#forget-config")
    page.wait("!location.search.includes('config=')")


def test_names_with_markup_are_text(page, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SMALL | {"_name_or_path": MARKUP}))
    page.run("window.alert = () => { window.alerted = true; }")
    page.upload("#upload-config", file)
    page.wait("document.querySelector('#uploaded-config').innerText.startsWith('In use')")
    until_address(page, "config=")
    page.wait(READY)
    assert MARKUP in text(page, "#uploaded-config")
    assert MARKUP in text(page, "#python")
    assert page.run("document.querySelectorAll('img').length") == 0
    assert not page.run("window.alerted")


def test_a_quality_table_of_ones_own(page, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("method,family,sparsity,gap_percent\nmine,low-rank,0.25,2\nmine,low-rank,0.5,9\n")
    page.run("document.querySelector('#view input[value=pareto]').click()")
    page.wait("document.querySelector('#caption').innerText.includes('Table 10')")
    page.upload("#upload-quality", table)
    page.wait("document.querySelector('#caption').innerText.includes('the uploaded table')")
    assert page.run("[...document.querySelectorAll('#figure .legendtext')].map(e => e.textContent)") == [
        "frontier",
        "low-rank",
    ]
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("method,family\nmine,low-rank\n")
    page.upload("#upload-quality", wrong)
    page.wait("document.querySelector('#error-quality').innerText.includes('no column')")


def test_a_click_on_a_step_shows_what_each_op_adds(page):
    page.click("#figure .waterfalllayer .point:nth-of-type(2) path", noticed=HOVERED)
    page.wait("document.querySelector('#ops').innerText.includes('not pruned: ops that the method leaves')")


def test_a_click_shows_the_ops_behind_the_point(page):
    page.run("document.querySelector('#view input[value=map]').click()")
    page.wait("document.querySelector('#figure .heatmaplayer image')")
    page.click("#figure .nsewdrag", at=(0.99, 0.99), noticed=HOVERED)
    page.wait("document.querySelector('#ops').innerText.includes('batch 256, context 65536')")


def test_it_can_be_used_without_a_mouse(page):
    """Every control that takes the focus has a name, and the tab key reaches all of them."""
    page.send("Accessibility.enable")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    focusable = [
        node for node in nodes
        if not node.get("ignored") and any(p["name"] == "focusable" for p in node.get("properties", []))
    ]  # fmt: skip
    names = {node.get("name", {}).get("value", "") for node in focusable}
    assert "" not in names
    assert {"Model", "Batch", "Context [tokens]", "GPUs h100-sxm, l40s", "Engine vendor", "Upload config.json"} <= names
    roles = [node["role"]["value"] for node in nodes if not node.get("ignored")]
    assert {"main", "banner", "form", "status"} <= set(roles)
    assert page.run("document.documentElement.lang") == "en"
    reached = set()
    for _ in range(45):
        page.press("Tab", 9)
        reached.add(page.run("document.activeElement.id || document.activeElement.name"))
    assert {"model", "gpus", "stack", "phase", "batch", "method-0", "view", "png", "csv", "report"} <= reached
    outline = page.run(
        "(() => { const e = document.querySelector('#csv'); e.focus({focusVisible: true}); "
        "return getComputedStyle(e).outlineStyle + getComputedStyle(e).outlineWidth; })()"
    )
    assert outline == "solid3px"


def test_dark_by_preference_and_by_switch(browser, served):
    def brightness() -> float:
        return browser.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + +b, 0)")

    browser.open(served, dark=True)
    browser.wait(READY)
    assert brightness() < 150
    assert browser.run("getComputedStyle(document.querySelector('#figure .xtick text')).fill") == "rgb(230, 233, 238)"
    browser.click("#theme")
    browser.wait("document.documentElement.dataset.theme === 'light'")
    assert brightness() > 600
    browser.run("localStorage.clear()")


def test_a_phone_needs_no_sideways_scroll(browser, served):
    browser.open(served + "?view=gpus", width=390, height=844, phone=True)
    browser.wait(READY)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    outside = browser.run(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg, .unseen') "
        "&& e.getBoundingClientRect().right > 391 && e.getBoundingClientRect().width > 1).map(e => e.id || e.className)"
    )
    assert outside == []


def test_buttons_take_the_answer_away(page):
    page.run("void (HTMLAnchorElement.prototype.click = function () { window.saved = this.download; })")
    page.click("#png")
    page.wait("window.saved === 'figure.png' && +document.documentElement.dataset.picture > 10000")
    copied = "navigator.clipboard.writeText = async text => { window.copied = text; }"
    page.run(f"void ({copied})")
    for button, start in (
        ("copy-python", "import pruninfersim"),
        ("copy-command", "pruninfersim speedup"),
        ("copy-link", "http"),
    ):
        page.click(f"#{button}")
        page.wait(f"window.copied?.startsWith('{start}')")


def test_twenty_readers_at_once(page, served):
    """What the page sends for a change, sent by twenty at once with a batch each: each gets its own answer."""
    page.run(
        "void (window.sent = null, window.fetched = window.fetch, window.fetch = (url, given) => { "
        "if (given?.body?.includes?.('state.data') && given.body.includes('headline')) window.sent = given.body; "
        "return window.fetched(url, given); })"
    )
    page.type("#batch", "7")
    sent = json.loads(page.wait("window.sent"))

    def ask(batch: int) -> tuple[str, str]:
        inputs = [each | {"value": str(batch)} if each["id"] == "batch" else each for each in sent["inputs"]]
        request = urllib.request.Request(
            f"{served}_dash-update-component", json.dumps(sent | {"inputs": inputs}).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            response = json.load(answer)["response"]
        return response["state"]["data"], response["command"]["children"]

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(2, 22)))
    assert [f"batch={batch}" in state for batch, (state, _) in zip(range(2, 22), answers, strict=True)] == [True] * 20
    assert [f"--batch {batch} " in line for batch, (_, line) in zip(range(2, 22), answers, strict=True)] == [True] * 20


def test_nothing_but_the_page_is_served(served):
    for path in ("assets/../program.py", "assets/..%2fprogram.py", "etc/passwd"):
        request = urllib.request.Request(served + path)
        try:
            with urllib.request.urlopen(request) as answer:
                body = answer.read()
        except urllib.error.HTTPError:
            continue
        assert b"explorer page" not in body.replace(b"Pruning explorer", b"")
        assert b"root:" not in body
