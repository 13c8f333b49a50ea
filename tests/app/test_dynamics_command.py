"""`abbie-lens dynamics` over several texts, and over what was collected."""

import json

import pandas as pd
import pytest

from tests.corpus import text


@pytest.fixture
def folder(tmp_path, tiny_model, tiny_tokenizer):
    tiny_model(tokenizer=tiny_tokenizer, d_vocab=300).save_pretrained(tmp_path / "model")
    for seed, name in enumerate(("a", "b")):
        (tmp_path / f"{name}.txt").write_text(text(seed, 20))
    return tmp_path


def test_texts_side_by_side(folder, command):
    given = [
        "dynamics",
        str(folder / "model"),
        "--analysis",
        "distances",
        "-r",
        "2",
        "--no-controls",
    ]
    two = ["--data", str(folder / "a.txt"), "--data", f"other={folder / 'b.txt'}"]
    code, told, err = command(*given, *two, "--out", str(folder / "out"), "--json")
    assert code == 0, err
    frame = pd.DataFrame(json.loads(told)["rows"])
    assert (
        set(frame["set"]) == {"a", "other"} and (folder / "out" / "other" / "result.npz").is_file()
    )
    assert (folder / "out" / "report.html").is_file()
    code, _, err = command(*given, *two[:2], *two[:2], "--out", str(folder / "no"))
    assert code == 2 and "each name once" in err


def test_of_what_was_collected(folder, command):
    name, states = str(folder / "model"), str(folder / "states")
    sites = ["--site", "loop.hook_state", "--site", "loop.hook_readout", "--store", "float32"]
    code, _, err = command(
        "collect", name, "--data", str(folder / "a.txt"), "--out", states, "--n-iters", "2", *sites
    )
    assert code == 0, err
    given = ["dynamics", name, "--analysis", "distances", "--out", str(folder / "out")]
    code, told, err = command(*given, "--collected", states, "--json")
    assert code == 0, err
    assert {row["variant"] for row in json.loads(told)["rows"]} == {"trained"}
    for more, says in (
        (["--collected", states, "-r", "3"], "--collected"),
        (["--collected", states, "--data", "a.txt"], "--data"),
        ([], "--data"),
    ):
        code, _, err = command(*given, *more)
        assert code == 2 and says in err, more
