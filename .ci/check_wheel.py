"""Build the wheel, install it in a clean environment outside the checkout, and use it as a stranger would.

The working folder holds an `app.py` and a `probes.py` of the user's own, which must not be picked up.
Run with the checkout's own Python, which has Playwright: `.venv/bin/python .ci/check_wheel.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STRANGER = "the user's own file was imported"
BROWSER_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="abbie-lens-wheel-") as temporary:
        folder = Path(temporary)
        wheel = build(folder / "dist")
        binaries = install(wheel, folder / "venv")
        home = folder / "home"
        home.mkdir()
        for name in ("app.py", "probes.py"):
            (home / name).write_text(f"raise RuntimeError({STRANGER!r})\n")
        check_installed_place(binaries, home)
        check_models(binaries, home)
        check_diagnose(binaries, home)
        check_dashboard(binaries, home)
    say("the wheel works outside the checkout")


def say(text: str) -> None:
    print(f"wheel: {text}", flush=True)


def build(dist: Path) -> Path:
    say("building")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(dist), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = dist.glob("*.whl")
    say(f"{wheel.name}, {wheel.stat().st_size / 2**20:.1f} MiB")
    return wheel


def install(wheel: Path, venv: Path) -> Path:
    say("installing in a clean environment")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    command = [python, "-m", "pip", "install", "-qq", "-c", constraints, wheel]
    subprocess.run(command, check=True, cwd=venv)
    return venv / "bin"


def environment(home: Path) -> dict[str, str]:
    """No trace of the checkout, no network, a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}


def run(command: list[str | Path], home: Path) -> str:
    say(" ".join(Path(command[0]).name if i == 0 else str(c) for i, c in enumerate(command)))
    done = subprocess.run(
        command, cwd=home, env=environment(home), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"wheel: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def check_installed_place(binaries: Path, home: Path) -> None:
    code = (
        "import abbie_lens, app, probes; print(abbie_lens.__file__, app.__file__, probes.__file__)"
    )
    for place in run([binaries / "python", "-I", "-c", code], home).split():
        assert Path(place).is_relative_to(binaries.parent), f"{place} is not the installed package"
        assert Path(place).with_name("py.typed").is_file(), f"{place}: no py.typed beside it"


def check_models(binaries: Path, home: Path) -> None:
    listed = json.loads(run([binaries / "abbie-lens", "models", "--json"], home))
    names = {model["name"] for model in listed}
    bundled = {config.parent.name for config in (ROOT / "abbie_lens" / "zoo").glob("*/config.json")}
    assert names == bundled and names, f"the wheel has {names}, the checkout {bundled}"


def check_diagnose(binaries: Path, home: Path) -> None:
    text = "She opened the letter and <b>read</b> it twice."
    command = [binaries / "abbie-lens", "diagnose", text, "--n-iters", "4", "--out", "diagnosis"]
    run(command, home)
    out = home / "diagnosis"
    assert (out / "manifest.json").is_file() and (out / "report.html").is_file(), list(
        out.iterdir()
    )
    code = "import probes.bundle as b; print(*sorted(b.load('diagnosis').results))"
    results = run([binaries / "python", "-I", "-c", code], home).split()
    assert {"fixed_point", "lens", "trajectories", "halting"} <= set(results), results


def check_dashboard(binaries: Path, home: Path) -> None:
    with dashboard(binaries, home) as address:
        say(f"dashboard at {address}")
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=10) as answer:
            assert answer.status == 200
        look_at(address)


@contextmanager
def dashboard(binaries: Path, home: Path):
    """The dashboard on a free port; its address, once it answers."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    log = home / "dashboard.log"
    command = [binaries / "abbie-lens", "app", "--headless", "--port", str(port)]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, cwd=home, env=environment(home), stdin=subprocess.DEVNULL,
            stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    address = f"http://localhost:{port}"
    try:
        wait_until_healthy(address, server, log)
        yield address
        told = log.read_text(errors="replace")
        assert STRANGER not in told and "Traceback" not in told, told
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_healthy(address: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    sys.exit(f"wheel: the dashboard did not come up\n{log.read_text(errors='replace')}")


def look_at(address: str) -> None:
    """A page's script has run: its figures are drawn, and no exception box is shown."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    browser_path = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=BROWSER_FLAGS)
        for name in ("", "dynamics"):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"{address}/{name}", wait_until="domcontentloaded")
            page.wait_for_selector(".js-plotly-plot", timeout=180_000)
            page.wait_for_selector('[data-test-script-state="notRunning"]', timeout=180_000)
            boxes = page.locator('[data-testid="stException"]').all_inner_texts()
            assert not boxes, boxes
            say(f"page {name or 'overview'}: {page.locator('.js-plotly-plot').count()} figures")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
