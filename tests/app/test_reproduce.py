"""`abbie-lens reproduce`: its options, its output, its exit codes."""

import json

import pytest

from probes.reproduction import ReproduceConfig
from probes.reproduction.measures import MEASURES


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The quick comparison cut down to two families, three steps and two measures, as a file."""
    plain = ReproduceConfig.load("quick").to_dict()
    plain["name"] = "cut-down"
    plain["families"] = {name: plain["families"][name] for name in ("std", "abbie-d")}
    plain["training"] |= {"train_tokens": 3 * 4 * 63, "eval_every": 3, "checkpoint_every": 3}
    measured = {"nll": {"windows": 4}, "compute": {"n_iters": [1, 2]}}
    plain["measures"] = dict.fromkeys(MEASURES) | measured
    path = tmp_path_factory.mktemp("config") / "cut-down.json"
    path.write_text(json.dumps(plain))
    return path


def test_from_text_to_the_document_and_again_from_its_own_metrics(
    command, config, tmp_path, monkeypatch
):
    monkeypatch.setenv("ABBIE_LENS_DATA", str(tmp_path))
    document = tmp_path / "docs" / "reproduction.md"
    code, out, err = command("reproduce", str(config), "--document", str(document), "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["document"] == str(document)
    assert {"claim", "verdict", "estimate", "measured"} <= set(told["claims"][0])
    assert (tmp_path / "runs" / "cut-down" / "abbie-d" / "final").is_dir()
    assert "abbie-d · nll" in err
    before = document.read_bytes()
    document.unlink()
    nowhere = tmp_path / "nowhere"
    code, out, err = command(
        "reproduce", str(config), "--out", str(nowhere), "--document", str(document), "--document-only"
    )  # fmt: skip
    assert code == 0 and document.read_bytes() == before
    assert not nowhere.exists() and "not measured" in out


def test_plan_trains_nothing_and_prints_what_it_assumes(command, tmp_path):
    arguments = ["reproduce", "quick", "--plan", "--gpu", "a100", "--families", "std,lt", "--out", str(tmp_path / "o")]  # fmt: skip
    code, out, _ = command(*arguments, "--utilisation", "0.5", "--json")
    told = json.loads(out)
    assert code == 0 and [row["family"] for row in told["families"]] == ["std", "lt"]
    assert (told["gpu"], told["utilisation"], told["peak_flops"]) == ("a100", 0.5, 312e12)
    code, out, _ = command(*arguments)
    assert code == 0 and "35% utilisation" in out and "GiB" in out
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["novles"], "novels"),
        (["quick", "--families", "abbie"], "abbie-c"),
        (["quick", "--plan", "--gpu", "h1"], "h100"),
        (["novels", "--quick"], "novels"),
        (["quick", "--data", "no-such.txt"], "no-such.txt"),
    ],
)
def test_what_is_asked_wrongly_ends_with_2(command, tmp_path, arguments, named):
    code, out, err = command("reproduce", *arguments, "--out", str(tmp_path / "out"))
    assert code == 2 and not out and named in err
