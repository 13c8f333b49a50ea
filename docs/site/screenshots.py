"""`python -m docs.site.screenshots`: pictures of the real dashboard, light and dark, into `docs/screenshots/`.

Starts `abbie-lens app` on a bundled model, opens pages in a headless Chromium, and stores each as a WebP file that is
smaller than `LIMIT` bytes. Errors: SystemExit where there is no Chromium, a page shows an error, or a picture stays too large.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).resolve().parents[1] / "screenshots"
LIMIT = 150_000
MODEL = "abbie-d-novels"
PROMPT = "She opened the letter and read it slowly"
PAGES = {"overview": "", "dynamics": "dynamics", "halting": "halting"}
SIZE = {"width": 1400, "height": 900}
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Take them all."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("screenshots need Chromium: no chromium or google-chrome on the PATH.")
    OUT.mkdir(exist_ok=True)
    port = int(os.environ.get("PORT", 0)) or _free_port()
    command = [sys.executable, "-m", "app.cli", "app", "--port", str(port), "--headless"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(port, server)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                for scheme in ("light", "dark"):
                    page = browser.new_context(viewport=SIZE, color_scheme=scheme).new_page()
                    page.set_default_timeout(120_000)
                    for name, path in PAGES.items():
                        store(shot(page, f"http://localhost:{port}/{path}"), f"{name}-{scheme}")
                browser.close()
        finally:
            server.terminate()
            server.wait(20)


def shot(page: Page, address: str) -> bytes:
    """The page once its script has run and its figures are drawn, as PNG."""
    page.goto(f"{address}?{urlencode({'model': MODEL, 'prompt': PROMPT, 'r': 8})}")
    for _ in range(2):  # what a page draws may make it run again
        page.wait_for_timeout(1500)
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        for waiting in ("stSkeleton", "stSpinner"):
            page.wait_for_selector(f"[data-testid={waiting}]", state="detached")
    if wrong := page.get_by_test_id("stException").all_inner_texts():
        raise SystemExit(f"{address}: {wrong[0]}")
    return page.screenshot()


def store(png: bytes, name: str) -> None:
    """Write the picture, as finely as the limit allows."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (85, 70, 50):
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality, method=6)
        if file.tell() < LIMIT:
            (OUT / f"{name}.webp").write_bytes(file.getvalue())
            print(f"{name}.webp: {file.tell() // 1000} kB", flush=True)
            return
    raise SystemExit(f"{name}: more than {LIMIT} bytes at the lowest quality.")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def _wait(port: int, server: subprocess.Popen, seconds: float = 180) -> None:
    """Errors: SystemExit where the server ends or does not answer in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"the dashboard did not answer on port {port}.")


if __name__ == "__main__":
    main()
