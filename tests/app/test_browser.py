"""The dashboard as a visitor meets it: a headless Chromium opens, types, moves, clicks and downloads."""

import re
import subprocess
import zipfile
from urllib.parse import parse_qs, urlencode, urlparse

import pytest

from .axe import violations
from .test_launch import COMMAND, answer, free_port

pytestmark = pytest.mark.browser

PAGES = [
    "Overview",
    "Dynamics",
    "Attention",
    "Lens",
    "Halting",
    "Probes",
    "Causes",
    "Tasks",
    "Compare",
    "Export",
]
TEXT = "the cat sat on the mat"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# A page opened by its own address asks for the server below that address first.
PROBING = re.compile(r"/_stcore/(health|host-config)$")


@pytest.fixture(scope="module")
def address(model_folders, task_model_folder, tmp_path_factory):
    """A dashboard on tiny models, served from an empty folder."""
    port = free_port()
    folders = (*model_folders, task_model_folder)
    models = [part for folder in folders for part in ("--model", str(folder))]
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
        # One context for each colour scheme: its cache keeps the page's scripts.
        yield {
            scheme: browser.new_context(
                viewport={"width": 1440, "height": 900}, color_scheme=scheme
            )
            for scheme in ("light", "dark")
        }
        browser.close()


@pytest.fixture
def visit(chrome, address):
    """`visit(page, r="4")`: that page, opened; at the end, nothing may have gone wrong in it."""
    opened, wrong = [], []

    def note(kind, text):
        if not PROBING.search(text):
            wrong.append((kind, text))

    def start(path="", scheme="light", **address_query):
        page = chrome[scheme].new_page()
        page.set_default_timeout(180_000)  # two cores may be shared with other tests
        page.on("pageerror", lambda error: note("exception", str(error)))
        page.on("requestfailed", lambda request: note("failed request", request.url))
        page.on("request", lambda request: note_foreign(request.url))
        page.on(
            "console",
            lambda said: said.type == "error" and note(said.text, said.location.get("url", "")),
        )
        opened.append(page)
        page.goto(f"{address}/{path}?{urlencode({'prompt': TEXT, 'r': 3} | address_query)}")
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
        wrong += page.get_by_test_id("stException").all_inner_texts()
        page.close()
    assert not wrong, wrong


def settle(page):
    """Wait until the script has run and what it drew is there."""
    page.wait_for_timeout(250)  # longer than a slider waits before it tells the server
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_selector("[data-testid=stSkeleton]", state="detached")
    page.wait_for_selector("[data-testid=stSpinner]", state="detached")


def open_page(page, name):
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
    settle(page)


def point(page, x, y):
    """Move the mouse to a place in a figure, and wait until Plotly has seen it there."""
    page.mouse.move(x - 4, y - 4)
    page.mouse.move(x, y)
    page.wait_for_selector(".hoverlayer .hovertext")


def query(page):
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


def figure(page):
    """The first figure, once it is drawn."""
    drawn = page.locator(".js-plotly-plot").first
    drawn.locator(".main-svg").first.wait_for(state="attached")
    return drawn


def ticks(page):
    """Labels of the first figure's token axis."""
    return figure(page).locator(".xaxislayer-above .xtick text").all_text_contents()


def test_a_page_opens_by_its_own_address(visit):
    page = visit("lens", lens="Logit lens", prompt="the rat")
    assert "skips the Tail" in figure(page).locator(".gtitle").first.text_content()
    assert ticks(page)[1:] == ["the", "·rat"]


@pytest.mark.parametrize("old", ["fixed_points", "trajectories"])
def test_an_old_address_shows_dynamics(visit, old):
    page = visit(old, prompt="the rat")
    assert page.locator("h3").first.inner_text() == "Does this model converge on this prompt?"
    assert query(page)["prompt"] == "the rat"


def test_typing_a_prompt_changes_figure_and_address(visit):
    page = visit()
    box = page.get_by_test_id("stSidebar").get_by_role("textbox", name="Prompt")
    box.fill("the rat sat")
    box.press("Control+Enter")
    settle(page)
    page.wait_for_function("document.querySelector('.gtitle-subtitle').textContent.includes('rat')")
    assert ticks(page)[1:] == ["the", "·rat", "·sat"]
    assert query(page) == {"r": "3", "prompt": "the rat sat"}
    open_page(page, "Lens")
    assert query(page) == {"r": "3", "prompt": "the rat sat"}
    page.reload()
    settle(page)
    assert ticks(page)[1:] == ["the", "·rat", "·sat"]


def test_moving_r_and_a_threshold(visit):
    page = visit()
    open_page(page, "Halting")
    slider = page.get_by_test_id("stSidebar").get_by_role("slider")
    slider.focus()
    slider.press("ArrowRight")
    settle(page)
    steps = page.get_by_test_id("stMetricValue").first
    steps.filter(has_text="of 4").wait_for()
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
    page = visit()
    open_page(page, "Lens")
    assert page.get_by_text("After 3 iterations", exact=True).count() == 1
    cells = figure(page).locator(".nsewdrag").first.bounding_box()
    # k = 0…3 upward: the cell of token 2 after one iteration.
    across = (2 + 0.5) / len(ticks(page))
    point(page, cells["x"] + cells["width"] * across, cells["y"] + cells["height"] * 2.5 / 4)
    page.mouse.down()
    page.mouse.up()
    page.get_by_text("After 1 iteration", exact=True).wait_for()
    assert page.get_by_text("at token 2:", exact=False).count() == 1


def test_clicking_a_patched_cell_shows_what_the_corrupt_run_says_there(visit):
    page = visit("causes")
    page.get_by_role("textbox", name="Clean prompt").fill("the cat sat on the mat")
    page.get_by_role("textbox", name="Corrupt prompt").fill("the mat sat on the mat")
    page.get_by_role("textbox", name="Control").fill("")
    page.get_by_role("combobox", name="Judged by").click()
    page.get_by_role("option", name="KL to the clean prediction").click()
    page.get_by_role("button", name="Patch", exact=True).click()
    drawn = figure(page)
    drawn.scroll_into_view_if_needed()
    cells = drawn.locator(".nsewdrag").first.bounding_box()
    across = (2 + 0.5) / 7  # token 2 of 7, iteration 1 of 0…3
    point(page, cells["x"] + cells["width"] * across, cells["y"] + cells["height"] * 2.5 / 4)
    page.mouse.down()
    page.mouse.up()
    page.get_by_text("After 1 iteration", exact=True).wait_for()
    assert page.get_by_text("at token 2:", exact=False).count() == 1


def test_hovering_a_cell_lists_its_candidates(visit):
    page = visit()
    open_page(page, "Lens")
    cells = figure(page).locator(".nsewdrag").first.bounding_box()
    point(page, cells["x"] + cells["width"] * 0.36, cells["y"] + cells["height"] * 0.4)
    assert "%" in page.locator(".hoverlayer .hovertext").first.text_content()


def test_downloads_are_whole_files(visit, tmp_path):
    page = visit()
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
    page.get_by_role("button", name="Open this bundle").click()
    page.get_by_text("no model is loaded").wait_for()
    open_page(page, "Lens")
    figure(page)


def test_every_page_opens_without_an_error_and_markup_in_a_prompt_stays_text_everywhere(visit):
    page = visit(r=2)
    box = page.get_by_test_id("stSidebar").get_by_role("textbox", name="Prompt")
    box.fill(
        "<b>fat</b> &amp; <script>window.caught=1</script><img src=x onerror='window.caught=1'>"
    )
    box.press("Control+Enter")
    settle(page)
    for name in PAGES:
        open_page(page, name)
        assert page.locator("h3").first.inner_text().endswith("?"), name
        assert page.get_by_test_id("stException").count() == 0, name
        if name not in ("Probes", "Causes", "Tasks", "Export"):
            figure(page)
        assert page.evaluate("window.caught") is None
        assert page.locator("b:has-text('fat'), img[src=x]").count() == 0
    open_page(page, "Lens")
    box.fill("<b>a</b>&amp;")
    box.press("Control+Enter")
    settle(page)
    page.wait_for_function(
        "document.querySelector('.gtitle-subtitle').textContent.includes('a</b>')"
    )
    assert "".join(ticks(page)).endswith("<b>a</b>&amp;")
    assert "“<b>a</b>&amp;”" in figure(page).locator(".gtitle-subtitle").text_content()


def test_a_prompt_of_ten_contexts_is_refused_calmly_even_from_a_link(visit):
    page = visit(prompt="the cat " * 640)
    assert page.get_by_text("cannot be run").count() == 1
    assert page.get_by_test_id("stAlert").count() == 0


def test_dark_visitors_get_dark_figures(visit):
    from probes.figures.colors import PALETTES

    page = visit(scheme="dark")
    paper = figure(page).locator(".main-svg").first.evaluate("e => e.style.background")
    background = page.get_by_test_id("stApp").evaluate("e => getComputedStyle(e).backgroundColor")
    wanted = "rgb({}, {}, {})".format(*bytes.fromhex(PALETTES["dark"].paper[1:]))
    assert (paper, background) == (wanted, wanted)


def test_a_fit_shows_progress_and_can_be_cancelled(visit):
    page = visit(r=4)
    open_page(page, "Probes")
    page.get_by_role("button", name="Fit the probes").click()
    page.get_by_role("progressbar").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("The fit was stopped before it was done.").wait_for()


def test_a_task_is_measured_and_its_exits_are_shown(visit):
    page = visit("tasks", model="tiny-k-hop", task_n="50")
    page.get_by_role("button", name="Measure").click()
    cells = figure(page)
    assert (
        cells.locator(".gtitle").first.text_content() == "Accuracy by needed steps and iterations"
    )
    box = cells.locator(".nsewdrag").first.bounding_box()
    point(page, box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.5)
    assert "chance 0.167" in page.locator(".hoverlayer .hovertext").first.text_content()
    page.get_by_role("radio", name="Exit steps").click()
    page.get_by_text("Iterations per answer").wait_for()
    assert query(page)["task_view"] == "Exit steps"
    page.get_by_role("radio", name="Examples").click()
    page.get_by_text("⟦ ⟧ marks an answer").wait_for()
    assert "⟦" in page.get_by_test_id("stCode").inner_text()


def test_models_are_laid_over_each_other(visit):
    page = visit("compare")
    assert "Held-out loss" in figure(page).locator(".gtitle").first.text_content()
    page.get_by_role("radio", name="Several on this prompt").click()
    settle(page)
    names = page.locator(".legendtext")
    names.first.wait_for()
    assert names.all_text_contents() == ["tiny-abbie-d", "tiny-abbie-c"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_break_no_rule_of_accessibility(visit, scheme):
    page = visit(scheme=scheme, r=2)
    for name in PAGES:
        open_page(page, name)
        if name not in ("Probes", "Causes", "Tasks", "Export"):
            figure(page)
        assert violations(page) == [], name
        for chart in page.get_by_test_id("stPlotlyChart").all():
            said = chart.get_attribute("aria-label")
            assert len(said.split(". ")) > 2, (name, said)  # more than its name


def test_a_page_is_reached_and_changed_by_keys_alone(visit):
    page = visit()
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Lens", exact=True).focus()
    page.keyboard.press("Enter")
    settle(page)
    figure(page)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("(document.activeElement.getAttribute('aria-label') || "
                          "document.activeElement.textContent).trim()")
        )  # fmt: skip
    assert {"Prompt", "Iterations r"} <= reached, reached
    assert any("CSV" in name for name in reached), reached
