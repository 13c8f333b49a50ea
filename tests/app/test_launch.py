"""Starting the dashboard: from anywhere, on this machine only, deaf to what lies in the folder."""

import base64
import http.client
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from app import theme
from app.cli import launch
from app.settings import Settings

# -P as in the installed script: the folder of the caller is not on the path.
COMMAND = [sys.executable, "-P", "-m", "app.cli", "app", "--headless"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answer(port: int, seconds: float = 60.0) -> bool:
    """Whether the server says it is well, asked until it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection("localhost", port, timeout=5)
            connection.request("GET", "/_stcore/health")
            if connection.getresponse().status == 200:
                return True
        except OSError:
            time.sleep(0.3)
    return False


def opens_stream(port: int, host: str) -> bool:
    """Whether the server talks to a page that came under the name `host`."""
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    asked = {
        "Host": host, "Origin": f"http://{host}", "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": base64.b64encode(b"k" * 16).decode(),
    }  # fmt: skip
    connection.request("GET", "/_stcore/stream", headers=asked)
    status = connection.getresponse().status
    connection.close()
    return status == 101


def test_flags_are_options_that_streamlit_knows():
    from streamlit import config

    for flag in launch.flags(8501, headless=True):
        name = flag.removeprefix("--").split("=", 1)[0]
        assert name in config.get_config_options(), name


def test_flags_keep_the_dashboard_private():
    flags = launch.flags(None, headless=False)
    assert "--server.address=localhost" in flags
    assert "--server.allowedHosts=localhost" in flags
    assert "--server.enableCORS=true" in flags
    assert "--server.enableXsrfProtection=true" in flags
    assert "--server.enableAgentApi=false" in flags
    assert f"--server.maxUploadSize={launch.MAX_UPLOAD_MB}" in flags
    assert "--browser.gatherUsageStats=false" in flags
    assert "--server.showEmailPrompt=false" in flags
    assert (
        "--logger.hideWelcomeMessage=true" in flags
    )  # else visitors are offered tools for writing apps
    assert not any("server.port" in flag for flag in flags)


def test_pages_around_figures_have_the_figures_paper():
    from probes.figures.colors import PALETTES

    options = theme.options()
    for mode in ("light", "dark"):
        assert options[f"theme.{mode}.backgroundColor"] == PALETTES[mode].paper
        assert options[f"theme.{mode}.textColor"] == PALETTES[mode].ink


def settings_of(monkeypatch, command, *arguments):
    """What `abbie-lens app` would tell the dashboard, or its error."""
    started = []
    monkeypatch.setattr("streamlit.web.cli.main", lambda *_, **__: started.append(True))
    monkeypatch.setattr(launch, "_leave_working_folder", lambda: None)
    monkeypatch.setattr(os, "_exit", lambda code: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    code, _, err = command("app", "--headless", *arguments)
    return Settings.from_env() if started else (code, err)


def test_visitors_may_name_nothing_unless_the_server_was_started_so(monkeypatch, command, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert settings_of(monkeypatch, command).root is None
    assert settings_of(monkeypatch, command, "--allow-load").root == str(tmp_path.resolve())
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to("models")
    found = settings_of(monkeypatch, command, "--allow-load", "--root", "link")
    assert found.root == str((tmp_path / "models").resolve())
    code, err = settings_of(monkeypatch, command, "--root", "models")
    assert code == 2 and "--allow-load" in err


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory):
    """A user's folder with modules of their own that bear our names."""
    folder = tmp_path_factory.mktemp("users")
    for name in ("app", "probes", "abbie_lens", "streamlit_app"):
        (folder / f"{name}.py").write_text(
            "raise SystemExit('the user\\'s own module was imported')\n"
        )
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "config.toml").write_text(
        "[server]\naddress = '0.0.0.0'\nbaseUrlPath = 'x'\nallowedHosts = ['*']\n"
    )
    return folder


def test_modules_in_the_working_folder_are_not_picked_up(hostile_folder, model_folders):
    port = free_port()
    server = subprocess.Popen(
        [*COMMAND, "--port", str(port), "--model", str(model_folders[0])],
        cwd=hostile_folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    try:
        assert answer(port), server.poll()
        assert server.poll() is None
        listening = [c.laddr.ip for c in psutil.Process(server.pid).net_connections("inet")
                     if c.status == psutil.CONN_LISTEN]  # fmt: skip
        assert listening and set(listening) <= {"127.0.0.1", "::1"}
        assert opens_stream(port, f"localhost:{port}")
        assert not opens_stream(port, f"elsewhere.example:{port}")
    finally:
        server.terminate()
        said, _ = server.communicate(timeout=20)
    assert "own module" not in said and "Traceback" not in said
    assert f"http://localhost:{port}" in said


def test_the_working_folder_leaves_the_search_path(hostile_folder):
    """Even where the caller put it there, as `python -m app.cli` does."""
    code = (
        "import sys, os\n"
        "import app.cli.launch as launch\n"
        "sys.path.insert(0, os.getcwd()); sys.path.insert(0, '')\n"
        "launch._leave_working_folder()\n"
        "import probes, abbie_lens\n"
        "assert os.getcwd() == str(launch.ENTRY.parent), os.getcwd()\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=hostile_folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


STOPPED_IN_A_RUN = """
import threading, time
import torch
from streamlit.web import cli

def stop_while_a_model_runs(*arguments, **options):
    x = torch.randn(400, 400)
    def work():
        while True:
            x @ x
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.5)
    print("Stopping...")

cli.main = stop_while_a_model_runs
from app.cli import main
main(["app", "--headless"])
"""


def test_stopping_in_the_middle_of_a_run_ends_quietly(project_root):
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_IN_A_RUN], cwd=project_root, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    address, last = done.stdout.splitlines()
    assert address.startswith("abbie-lens: http://localhost:") and last == "Stopping..."
