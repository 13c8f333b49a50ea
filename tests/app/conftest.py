"""Tiny saved models and a dashboard on them; nothing is trained and nothing is fetched."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import Settings

MAIN = Path(__file__).parents[2] / "app" / "dashboard" / "main.py"
TEXT = "the cat sat on the mat, and the rat ran"


@pytest.fixture(autouse=True)
def user_data(monkeypatch, tmp_path) -> Path:
    """An empty folder for what a user fetched, so that no test sees this machine's."""
    monkeypatch.setenv("ABBIE_LENS_DATA", str(tmp_path / "user-data"))
    return tmp_path / "user-data"


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory, tiny_tokenizer) -> Callable:
    """`plain_folder("gpt2")`: a tiny plain decoder of four blocks, saved as transformers saves it."""
    from tests.abbie_lens.bridged import decoders

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp("plain") / f"tiny-{name}"
        decoders.make(name, seed=3, vocab_size=300).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, tiny_model, tiny_tokenizer) -> tuple[Path, Path]:
    """Two saved models of equal size, AbbIE-D and AbbIE-C, with one tokenizer."""
    from abbie_lens.loops import AbbieC, AbbieD

    parent = tmp_path_factory.mktemp("models")
    folders = []
    for loop in (AbbieD(), AbbieC()):
        model = tiny_model(
            loop, tokenizer=tiny_tokenizer, d_vocab=300, n_ctx=256, model_name=f"tiny-{loop.family}"
        )
        folders.append(model.save_pretrained(parent / f"tiny-{loop.family}"))
    return folders[0], folders[1]


@pytest.fixture(scope="session")
def task_model_folder(tmp_path_factory, tiny_model) -> Path:
    """A saved model of k-hop that says it was trained on one and two hops."""
    import json

    from abbie_lens import tasks
    from abbie_lens.files.layout import ACCURACY
    from abbie_lens.tasks.evaluate import accuracy

    task = tasks.make("k-hop", n_nodes=6, n_ctx=40, train_difficulty=(1, 2), test_difficulty=(1, 3))
    model = tiny_model(
        tokenizer=task.tokenizer(), d_vocab=task.d_vocab, n_ctx=40, model_name="tiny-k-hop"
    )
    folder = model.save_pretrained(tmp_path_factory.mktemp("tasks") / "tiny-k-hop")
    found = accuracy(model, task, (1, 2), n_instances=20)
    (folder / ACCURACY).write_text(json.dumps(found.to_dict()))
    return folder


@pytest.fixture
def dashboard(model_folders, monkeypatch) -> Callable:
    """`dashboard(page="lens.py", query={"r": "4"}, **settings)`: the app, opened on that page."""
    from streamlit.testing.v1 import AppTest

    def start(page: str | None = None, query: dict | None = None, **settings):
        settings.setdefault("models", tuple(str(folder) for folder in model_folders))
        for name, value in Settings(**settings).to_env().items():
            monkeypatch.setitem(os.environ, name, value)
        at = AppTest.from_file(MAIN, default_timeout=60)
        asked = {"prompt": TEXT, "r": "4", **(query or {})}
        at.query_params = {name: value for name, value in asked.items() if value is not None}
        if page is not None:
            # Before the first run: Streamlit drops a page's own parameters when pages change.
            at.switch_page(f"screens/{page}")
        return at.run()

    return start


@pytest.fixture
def command(capsys) -> Callable:
    """`command("models", "--json")`: (exit code, stdout, stderr) of one command of `abbie-lens`."""
    from app.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        out, err = capsys.readouterr()
        return exit_.value.code or 0, out, err

    return run
