"""The command line on plain decoders: a window and a rule from options, and what is refused before anything is read."""

import json
import shutil

import pytest
import torch

from abbie_lens import load
from abbie_lens.bridged import Anchored, Loop
from probes import bundle
from probes.splits import split

from .conftest import TEXT


@pytest.fixture(scope="module")
def gpt2(plain_folder):
    return str(plain_folder("gpt2"))


def test_diagnose_runs_the_loop_that_was_asked_for(command, gpt2, tmp_path):
    out = tmp_path / "out"
    code, told, err = command(
        "diagnose", TEXT, "--model", gpt2, "--start", "1", "--stop", "3", "--loop", "anchored=0.25",
        "--n-iters", "3", "--out", str(out), "--json",
    )  # fmt: skip
    assert code == 0, err
    model = load(gpt2, loop=Loop(1, 3, Anchored(beta=0.25)))
    with torch.no_grad():
        expected = model(model.to_tokens(TEXT), n_iters=3, return_type="loss").item()
    assert json.loads(told)["nll"]["3"] == pytest.approx(expected, rel=1e-4)
    saved = bundle.load(out).manifest["settings"]["loop"]
    assert saved == {"start": 1, "stop": 3, "rule": "anchored=0.25"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--start", "1"], "--stop"),
        (["--stop", "2"], "--start"),
        (["--loop", "damped"], "window"),
        (["--start", "2", "--stop", "2"], "stop=2"),
        (["--start", "1", "--stop", "9"], "stop=9"),
        (["--start", "1", "--stop", "2", "--loop", "dampt"], "dampt"),
        (["--start", "1", "--stop", "2", "--loop", "damped=0.5"], "damped takes no number"),
        (["--start", "1", "--stop", "2", "--loop", "anchored=half"], "half"),
        (["--start", "1", "--stop", "2", "--loop", "anchored=2"], "beta"),
        ([], "--start 1 --stop 2"),
    ],
)
@pytest.mark.parametrize("name", ["diagnose", "eval"])
def test_bad_loops_are_bad_usage(command, gpt2, tmp_path, monkeypatch, name, options, said):
    import abbie_lens

    monkeypatch.setattr(abbie_lens, "load", lambda *_, **__: pytest.fail("a weight was read"))
    given = {
        "diagnose": ["diagnose", TEXT, "--model", gpt2, "--out", str(tmp_path / "out")],
        "eval": ["eval", gpt2, "--tasks", "none"],
    }[name]
    code, out, err = command(*given, *options)
    assert code == 2 and not out
    assert said in " ".join(err.replace("│", " ").split())


def test_a_looped_model_takes_no_window(command, model_folders, tmp_path):
    code, _, err = command(
        "diagnose", TEXT, "--model", str(model_folders[0]), "--start", "0", "--stop", "1",
        "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert code == 2 and "brings its own loop" in " ".join(err.replace("│", " ").split())


def test_split_measures_every_window(command, gpt2, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    figure = tmp_path / "map.html"
    code, out, err = command(
        "split", gpt2, str(file), "--lengths", "1,2", "--loop", "damped", "--json",
        "--figure", str(figure),
    )  # fmt: skip
    assert code == 0, err
    told, expected = (
        json.loads(out),
        split(load(gpt2, loop=Loop(0, 1)), TEXT, 2, rule="damped", lengths=(1, 2)),
    )
    assert (told["best"]["start"], told["best"]["stop"]) == expected.best
    assert [w["loss"] for w in told["windows"]] == pytest.approx(
        expected.to_frame()["loss"].tolist()
    )
    assert figure.stat().st_size > 1000
    code, out, err = command("split", gpt2, str(file), "--lengths", "1")
    assert code == 0 and "--start" in out and "knee" in out


def test_split_refuses_what_has_its_own_loop(command, model_folders, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    assert command("split", str(model_folders[0]), str(file))[0] == 2
    assert command("split", str(model_folders[0]), str(file), "--lengths", "0")[0] == 2


def test_models_lists_the_installed_ones(command, gpt2, user_data):
    shutil.copytree(gpt2, user_data / "models" / "tiny-language")
    rows = json.loads(command("models", "--json")[1])
    assert rows[-1]["name"] == "tiny-language" and rows[-1]["n_blocks"] == 4
    assert {row["group"] for row in rows} == {"bundled", "installed"}
    assert "Installed: tiny-language, plain decoder (gpt2, 4 blocks)" in command("models")[1]
