"""The dashboard as a visitor meets it: a headless Chromium opens, types, moves, clicks and downloads."""

import re
import subprocess
import zipfile
from urllib.parse import parse_qs, urlparse

import pytest

from .test_launch import COMMAND, answer, free_port

pytestmark = pytest.mark.browser

PAGES = [
    "Overview",
    "Fixed points",
    "Lens",
    "Trajectories",
    "Halting",
    "Probes",
    "Compare",
    "Export",
]
TEXT = "the cat sat on the mat"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# A page opened by its own address asks for the server below that address first.
PROBING = re.compile(r"/_stcore/(health|host-config)$")


@pytest.fixture(scope="module")
def address(model_folders, tmp_path_factory):
    """A dashboard on tiny models, served from an empty folder."""
    port = free_port()
    models = [part for folder in model_folders for part in ("--model", str(folder))]
    server = subprocess.Popen(
        [*COMMAND, "--port", str(port), *models], cwd=tmp_path_factory.mktemp("elsewhere"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert answer(port, 120)
    yield f"http://localhost:{port}"
    server.terminate()
    server.wait(20)


@pytest.fixture(scope="module")
def chrome(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chrome, address):
    """`visit(path, **context)`: an opened page; at the end, nothing may have gone wrong in it."""
    opened, wrong = [], []

    def note(kind, text):
        if not PROBING.search(text):
            wrong.append((kind, text))

    def start(path="/", **context):
        page = chrome.new_context(viewport={"width": 1440, "height": 900}, **context).new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: note("exception", str(error)))
        page.on("requestfailed", lambda request: note("failed request", request.url))
        page.on("request", lambda request: note_foreign(request.url))
        page.on(
            "console",
            lambda said: said.type == "error" and note(said.text, said.location.get("url", "")),
        )
        opened.append(page)
        page.goto(address + path)
        settle(page)
        return page

    def note_foreign(url):
        if (
            urlparse(url).scheme in ("http", "https", "ws")
            and urlparse(url).hostname != "localhost"
        ):
            wrong.append(("request to another machine", url))

    yield start
    for page in opened:
        assert page.get_by_test_id("stException").count() == 0
        page.context.close()
    assert not wrong, wrong


def settle(page):
    """Wait until the script has run and what it drew is there."""
    page.wait_for_timeout(400)  # until the interaction has reached the server
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_selector("[data-testid=stSkeleton]", state="detached")
    page.wait_for_selector("[data-testid=stSpinner]", state="detached")


def open_page(page, name):
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
    page.wait_for_timeout(300)
    settle(page)


def query(page):
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


def ticks(page):
    return page.locator(".js-plotly-plot .xtick text").all_inner_texts()


def test_every_page_opens_without_an_error(visit):
    page = visit("/?r=4")
    for name in PAGES:
        open_page(page, name)
        assert page.locator("h3").first.inner_text().endswith("?"), name
        assert page.get_by_test_id("stException").count() == 0, name
        if name not in ("Probes", "Export"):
            assert page.locator(".js-plotly-plot .main-svg").count() > 0, name


def test_a_page_opens_by_its_own_address(visit):
    page = visit("/lens?r=3&lens=Logit+lens&prompt=the+rat")
    assert "skips the Tail" in page.locator(".js-plotly-plot .gtitle").first.inner_text()
    assert ticks(page)[1:] == ["the", "·rat"]


def test_typing_a_prompt_changes_figure_and_address(visit):
    page = visit("/?r=3")
    box = page.get_by_test_id("stSidebar").get_by_role("textbox", name="Prompt")
    box.fill(TEXT)
    box.press("Control+Enter")
    settle(page)
    page.wait_for_function("document.querySelectorAll('.xtick text').length == 7")
    assert ticks(page)[1:] == ["the", "·cat", "·sat", "·on", "·the", "·mat"]
    assert query(page) == {"r": "3", "prompt": TEXT}
    open_page(page, "Lens")
    assert query(page) == {"r": "3", "prompt": TEXT}
    page.reload()
    settle(page)
    assert ticks(page)[1:3] == ["the", "·cat"]


def test_moving_r_and_a_threshold(visit):
    page = visit("/?r=3")
    open_page(page, "Halting")
    slider = page.get_by_test_id("stSidebar").get_by_role("slider")
    slider.focus()
    slider.press("ArrowRight")
    settle(page)
    steps = page.get_by_test_id("stMetricValue").first
    page.wait_for_function(
        "document.querySelector('[data-testid=stMetricValue]').innerText.endsWith('of 4')"
    )
    assert query(page)["r"] == "4"
    before = steps.inner_text()
    threshold = page.get_by_test_id("stMain").get_by_role("slider")
    threshold.focus()
    threshold.press("Home")
    settle(page)
    page.wait_for_function(
        "before => document.querySelector('[data-testid=stMetricValue]').innerText != before",
        arg=before,
    )
    assert "threshold_entropy_difference" in query(page)


def test_clicking_a_cell_shows_its_candidates(visit):
    page = visit(f"/?r=3&prompt={TEXT.replace(' ', '+')}")
    open_page(page, "Lens")
    assert page.get_by_text("After 3 iterations", exact=True).count() == 1
    cells = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    # 7 tokens across, k = 0…3 upward: the cell of token 2 after one iteration.
    page.mouse.click(cells["x"] + cells["width"] * 2.5 / 7, cells["y"] + cells["height"] * 2.5 / 4)
    page.get_by_text("After 1 iteration", exact=True).wait_for()
    assert page.get_by_text("at token 2", exact=False).count() == 1


def test_hovering_a_cell_lists_its_candidates(visit):
    page = visit(f"/?r=3&prompt={TEXT.replace(' ', '+')}")
    open_page(page, "Lens")
    cells = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    for part in (0.30, 0.36):
        page.mouse.move(cells["x"] + cells["width"] * part, cells["y"] + cells["height"] * 0.4)
    page.wait_for_selector(".hoverlayer .hovertext")
    assert "%" in page.locator(".hoverlayer .hovertext").inner_text()


def test_downloads_are_whole_files(visit, tmp_path):
    page = visit("/?r=3")
    open_page(page, "Export")
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download the bundle").click()
    caught.value.save_as(tmp_path / "run.zip")
    names = zipfile.ZipFile(tmp_path / "run.zip").namelist()
    assert any(name.endswith("/manifest.json") for name in names)
    assert any(name.endswith("/report.html") for name in names)
    open_page(page, "Halting")
    with page.expect_download() as caught:
        page.get_by_test_id("stDownloadButton").filter(has_text="CSV").first.click()
    caught.value.save_as(tmp_path / "halting.csv")
    assert (tmp_path / "halting.csv").read_text().startswith('"batch","position","token"')

    open_page(page, "Export")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(tmp_path / "run.zip")
    page.get_by_role("button", name="Open", exact=True).click()
    page.get_by_text("no model is loaded").wait_for()
    open_page(page, "Lens")
    assert page.locator(".js-plotly-plot .main-svg").count() > 0


def test_markup_in_a_prompt_stays_text_everywhere(visit):
    page = visit("/?r=2")
    box = page.get_by_test_id("stSidebar").get_by_role("textbox", name="Prompt")
    box.fill(
        "<b>fat</b> &amp; <script>window.caught=1</script><img src=x onerror='window.caught=1'>"
    )
    box.press("Control+Enter")
    settle(page)
    for name in PAGES:
        open_page(page, name)
        assert page.evaluate("window.caught") is None
        assert page.locator("b:has-text('fat'), img[src=x]").count() == 0
    open_page(page, "Lens")
    assert (
        "&" in "".join(ticks(page)) and "&amp;amp" not in page.locator(".xtick").first.inner_html()
    )
    assert "“<b>fat</b>" in page.locator(".js-plotly-plot .gtitle-subtitle").inner_text()


def test_a_prompt_of_ten_contexts_is_refused_calmly_even_from_a_link(visit):
    page = visit("/?prompt=" + "the+cat+" * 640)
    assert page.get_by_text("cannot be run").count() == 1
    assert page.get_by_test_id("stAlert").count() == 0


def test_dark_visitors_get_dark_figures(visit):
    from probes.figures.colors import PALETTES

    page = visit("/?r=3", color_scheme="dark")
    paper = page.locator(".js-plotly-plot .main-svg").first.evaluate("e => e.style.background")
    background = page.get_by_test_id("stApp").evaluate("e => getComputedStyle(e).backgroundColor")
    wanted = "rgb({}, {}, {})".format(*bytes.fromhex(PALETTES["dark"].paper[1:]))
    assert (paper, background) == (wanted, wanted)


def test_a_fit_shows_progress_and_can_be_cancelled(visit):
    page = visit("/?r=4")
    open_page(page, "Probes")
    page.get_by_role("button", name="Fit the probes").click()
    page.get_by_role("progressbar").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("The fit was stopped before it was done.").wait_for()
