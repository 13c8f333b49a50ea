"""The command line: exit codes, what goes to stdout and to stderr, and what it costs to ask for help."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import probes
from abbie_lens import load
from abbie_lens.loops import Std
from probes import bundle
from tests import warm

PYTHON = [sys.executable, "-P", "-m", "app.cli"]


def at(model, folder):
    """Options that name the model and a free output folder."""
    return ["--model", str(model), "--out", str(folder / "out")]


def test_help_does_not_import_torch(project_root):
    code = (
        "import sys\nfrom app.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'streamlit', 'numpy', 'abbie_lens', 'probes'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--loop" in done.stdout


def test_version_and_unknown_command(command):
    code, out, _ = command("--version")
    assert code == 0 and out.startswith("abbie-lens 0.")
    code, out, err = command("frobnicate")
    assert code == 2 and not out and "frobnicate" in err


def test_models_lists_what_the_zoo_has(command):
    from abbie_lens import zoo

    code, out, err = command("models", "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["name"] for row in rows] == zoo.names()
    for row in rows:
        of_a_task = row["accuracy"] is not None
        most = zoo.describe(row["name"]).config.loop.max_depth or 16
        depths = {str(r) for r in ((1, 2, 4, 8) if of_a_task else (1, 2, 4, 8, 16)) if r <= most}
        measured = row["accuracy"]["trained"] if of_a_task else row["heldout_nll"]
        assert row["n_params"] > 0 and set(measured) >= depths
    code, out, err = command("models")
    assert code == 0
    assert all(name in out for name in zoo.names()) and (zoo.names() or "no bundled model" in err)


def test_models_reads_losses_from_the_stored_metrics(command, monkeypatch, tmp_path, tiny_model):
    from abbie_lens import zoo

    metrics = {"evaluation": {"n_iters": [1, 2], "nll": [4.5, 4.25]}}
    tiny_model().save_pretrained(tmp_path / "one", metrics=metrics)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    rows = json.loads(command("models", "--json")[1])
    assert rows[0]["heldout_nll"] == {"1": 4.5, "2": 4.25}
    out = command("models")[1]
    assert "4.500" in out and "4.250" in out and "NLL r=2" in out


def test_models_of_tasks_have_a_table_of_their_own(command, monkeypatch, task_model_folder):
    from abbie_lens import zoo
    from abbie_lens.tasks.evaluate import TaskEvaluation

    monkeypatch.setattr(zoo, "FOLDER", task_model_folder.parent)
    stored = json.loads((task_model_folder / "accuracy.json").read_text())
    shares = TaskEvaluation.from_dict(stored).accuracy
    (row,) = json.loads(command("models", "--json")[1])
    told = row["accuracy"]
    assert (told["task"], told["trained_difficulty"], told["tested_difficulty"]) == (
        "k-hop",
        [1, 2],
        [1, 3],
    )
    assert told["trained"] == {
        str(r): pytest.approx(shares[i, :2].mean()) for i, r in enumerate((1, 2))
    }
    assert told["beyond"] == {str(r): pytest.approx(shares[i, 2]) for i, r in enumerate((1, 2))}
    assert row["heldout_nll"] == {}
    out = command("models")[1]
    assert "NLL" not in out and "harder, 3–3" in out and f"{shares[0, :2].mean():.3f}" in out


def test_a_refused_depth_is_null_and_an_empty_cell(
    command, monkeypatch, task_model_folder, tmp_path
):
    import shutil

    from abbie_lens import zoo

    folder = shutil.copytree(task_model_folder, tmp_path / "tiny-k-hop")
    stored = json.loads((folder / "accuracy.json").read_text())
    for name in ("accuracy", "low", "high"):
        stored[name][1] = [None] * 3
    (folder / "accuracy.json").write_text(json.dumps(stored))
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    told = json.loads(command("models", "--json")[1])[0]["accuracy"]
    assert told["trained"]["2"] is None and told["trained"]["1"] is not None
    assert "nan" not in command("models")[1]


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory, model_folders):
    """One run of `diagnose` in a process of its own: (folder, finished process)."""
    out = tmp_path_factory.mktemp("out") / "run"
    arguments = ["diagnose", "the cat <b> sat", "--model", str(model_folders[0])]
    done = warm.start("-m", "app.cli", *arguments, "--n-iters", "5", "--out", str(out), "--json")
    assert done.wait() == 0, done.stderr
    return out, done


def test_diagnose_writes_a_bundle_that_holds_the_analyses(diagnosed, model_folders):
    out, _ = diagnosed
    opened = bundle.load(out)
    assert set(opened.results) == {
        *(
            "fixed_point",
            "lens",
            "trajectories",
            "halting",
            "lens_blocks",
            "attribution",
            "concept_space",
            "similarity",
            "attention",
        )
    }
    model = load(model_folders[0])
    again = probes.fixed_point(model, "the cat <b> sat", 5)
    assert opened.results["fixed_point"].raw == pytest.approx(again.raw, rel=1e-6)
    states = opened.states["loop.hook_state"]
    assert tuple(states.shape) == (6, 1, len(again.tokens[0]), model.cfg.d_model)
    assert (out / "report.html").is_file()


def test_diagnose_patches_a_pair_of_prompts_into_the_bundle(command, model_folders, tmp_path):
    out = tmp_path / "run"
    pair = ("--clean", "the cat sat", "--corrupt", "the rat sat")
    given = ("diagnose", "the cat", "--model", str(model_folders[0]), "--n-iters", "1", "--out", str(out))  # fmt: skip
    code, _, err = command(*given, *pair[:2])
    assert code == 2 and "--corrupt" in err and not out.exists()
    code, _, err = command(*given, "--clean", "the cat sat", "--corrupt", "the")
    assert code == 2 and "same length" in err and not out.exists()
    assert command(*given, *pair)[0] == 0
    opened = bundle.load(out)
    found = opened.results["patching"]
    assert found.score.shape[1] == 2 and found.control.shape == found.score.shape
    assert (
        opened.manifest["settings"]["clean"] == "the cat sat"
        and opened.manifest["settings"]["corrupt"] == "the rat sat"
    )


def test_diagnose_json_is_alone_on_stdout_and_agrees_with_the_model(diagnosed, model_folders):
    _, done = diagnosed
    told = json.loads(done.stdout)
    model = load(model_folders[0])
    tokens = model.to_tokens("the cat <b> sat")
    best = int(model(tokens, n_iters=5)[0, -1].argmax())
    assert told["prediction"][0]["id"] == best
    nll = model(tokens, n_iters=5, return_type="loss").item()
    assert told["nll"]["5"] == pytest.approx(nll, rel=1e-4)
    assert sum(told["fixed_point"]["verdicts"]["trained"].values()) == told["n_tokens"]


def test_diagnose_refuses_an_existing_folder_before_it_runs(command, tmp_path):
    code, out, err = command("diagnose", "text", "--out", str(tmp_path), "--model", "no-such-model")
    assert code == 1 and not out
    assert "exists" in err and "no-such-model" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["diagnose", "text", "--model", "no-such-model"], 1, "no-such-model"),
        (["diagnose", "   "], 2, "visible character"),
        (["diagnose", "text", "--n-iters", "0"], 2, "n-iters"),
        (["diagnose", "text", "--rule", "nonsense"], 2, "nonsense"),
        (["diagnose", "text", "--rule", "kl=much"], 2, "much"),
        (["diagnose", "a " * 700], 2, "context"),
        (["diagnose", "--file", "no-such-file.txt"], 2, "no-such-file.txt"),
        (["train"], 2, "--data"),
        (["train", "--data", "x", "--loop", "nonsense"], 2, "nonsense"),
        (["app", "--bundle", "no-such-folder"], 2, "no-such-folder"),
    ],
)
def test_bad_usage_is_one_calm_message(command, model_folders, tmp_path, arguments, code, said):
    if arguments[0] == "diagnose":
        arguments = [*arguments, "--out", str(tmp_path / "out")]
        if "--model" not in arguments:
            arguments += ["--model", str(model_folders[0])]
    got, out, err = command(*arguments)
    assert (got, out) == (code, "")
    assert said in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_text_from_file_and_stdin_is_the_argument_without_its_last_newline(
    tmp_path, model_folders, command
):
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbfthe cat\nsat\r\n")
    shared = ["--model", str(model_folders[0]), "--n-iters", "1", "--json"]
    from_file = command(
        "diagnose", "--file", str(tmp_path / "text.txt"), "--out", str(tmp_path / "a"), *shared
    )
    piped = warm.run(
        *("-m", "app.cli", "diagnose", *shared, "--out", str(tmp_path / "b")),
        given=b"the cat\nsat\n",
    )
    plain = command("diagnose", "the cat\nsat", "--out", str(tmp_path / "c"), *shared)
    told = [json.loads(text) for text in (from_file[1], piped.stdout, plain[1])]
    for summary in told:
        summary.pop("bundle")
    assert told[0] == told[1] == told[2]


def test_bytes_that_are_not_text_are_refused(tmp_path, model_folders, command):
    (tmp_path / "raw").write_bytes(b"abc\xff\xfe")
    code, _, err = command(
        "diagnose", "--file", str(tmp_path / "raw"), "--model", str(model_folders[0])
    )
    assert code == 2 and "UTF-8" in err and "byte 3" in err


def test_a_rule_with_a_threshold_is_replayed_at_it(tmp_path, model_folders, command):
    code, out, err = command(
        "diagnose", "the cat sat", "--model", str(model_folders[0]), "--n-iters", "3",
        "--rule", "fixed_k=2", "--out", str(tmp_path / "out"), "--json",
    )  # fmt: skip
    assert code == 0, err
    halting = json.loads(out)["halting"]
    assert list(halting) == ["fixed_k"] and halting["fixed_k"]["mean_steps"] == 2


def test_text_output_survives_a_terminal_that_knows_ascii_only(tmp_path, model_folders):
    done = subprocess.run(
        [*PYTHON, "diagnose", "naïve 🙂", "--n-iters", "1", *at(model_folders[0], tmp_path)],
        capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "next token" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupt_ends_quietly_with_130(tmp_path, model_folders):
    running = subprocess.Popen(
        [*PYTHON, "diagnose", "--model", str(model_folders[0]), "--out", str(tmp_path / "out")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell's background job ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    time.sleep(2.0)  # it waits for its text
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert not out and "Traceback" not in err


@pytest.mark.slow
def test_train_writes_a_model_that_loads(tmp_path, command):
    (tmp_path / "text.txt").write_text("the cat sat on the mat.\n" * 400)
    code, out, err = command(
        "train", "--data", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run"),
        "--loop", "abbie-d", "--loop-settings", '{"residual": "literal"}', "--d-model", "16", "--n-heads", "2",
        "--n-ctx", "16", "--vocab-size", "300", "--train-tokens", "600", "--batch-size", "4",
        "--seed", "3", "--json",
    )  # fmt: skip
    assert code == 0, err
    told = json.loads(out)
    assert told["heldout"]["n_iters"] == [1, 2, 4, 8, 16]
    model = load(told["model"])
    assert model.cfg.loop.residual == "literal" and model.cfg.d_model == 16
    code, _, err = command("train", "--data", "x", "--out", str(tmp_path / "run"))
    assert code == 1 and "resume" in err


def test_defaults_told_in_the_help_are_those_of_training():
    """The help is written without importing torch, so the numbers stand there a second time."""
    import dataclasses
    import inspect
    import re

    from abbie_lens.config import LoopedConfig
    from abbie_lens.training import TrainConfig
    from app.cli import train, train_settings

    real = {
        field.name: field.default
        for config in (LoopedConfig, TrainConfig)
        for field in dataclasses.fields(config)
    } | train_settings._SHAPE
    told = 0
    for name, parameter in inspect.signature(train.command).parameters.items():
        help_ = parameter.annotation
        match = re.search(r"\[([\d.]+)( million)?\]", str(help_))
        if match and name in real:
            value = float(match[1]) * (1e6 if match[2] else 1)
            assert value == real[name], name
            told += 1
    assert told >= 15


def test_retrofit_cuts_a_model_that_loads(tmp_path, tiny_model, command):
    source = tiny_model().save_pretrained(tmp_path / "plain")
    out = str(tmp_path / "cut")
    code, told, err = command(
        "retrofit",
        str(source),
        "--head",
        "0",
        "--body",
        "1-2",
        "--tail",
        "3",
        "--out",
        out,
        "--json",
    )
    assert code == 0, err
    told = json.loads(told)
    assert (told["head"], told["body"], told["tail"]) == ([0], [1, 2], [3])
    assert load(told["model"]).cfg.loop.family == "retrofit"
    code, _, err = command("retrofit", str(source), "--body", "9", "--out", str(tmp_path / "b"))
    assert code == 2 and "none of the blocks 0 to 3" in err
    code, _, err = command("retrofit", str(source), "--body", "x", "--out", str(tmp_path / "b"))
    assert code == 2 and "--body" in err


def test_fetch_says_what_it_knows_and_what_went_wrong(tmp_path, monkeypatch, command):
    monkeypatch.setenv("ABBIE_LENS_DATA", str(tmp_path))
    code, _, err = command("fetch", "smollm3")
    assert code == 2 and "expected one of smollm2-135m" in err
    damaged = tmp_path / "x.gguf"
    damaged.write_bytes(b"GGUF")
    code, _, err = command("fetch", "smollm2-135m", "--gguf", str(damaged))
    assert code == 1 and "x.gguf: damaged" in err.splitlines()[-1]
    assert not list(tmp_path.glob("models/*"))


def test_retrofit_teaches_a_plain_model_to_loop(tmp_path, tiny_model, tiny_tokenizer, command):
    sizes = dict(n_head_blocks=0, n_body_blocks=3, n_tail_blocks=0, n_iters=1)
    plain = tiny_model(Std(), tokenizer=tiny_tokenizer, d_vocab=len(tiny_tokenizer), **sizes)
    plain.save_pretrained(tmp_path / "plain")
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat, and the rat ran. " * 40)
    given = ["retrofit", str(tmp_path / "plain"), "--start", "1", "--stop", "2", "--n-ctx", "24"]
    given += [
        "--batch-size",
        "2",
        "--train-tokens",
        "200",
        "--measured-windows",
        "4",
        "--rank",
        "2",
    ]
    texts = ["--data", str(text), "--heldout", str(text)]
    runs = tmp_path / "runs"
    for name in ("looped", "control"):
        more = ["--control"] if name == "control" else []
        code, told, err = command(*given, *texts, *more, "--out", str(runs / name), "--json")
        assert code == 0, err
        assert (Path(json.loads(told)["run"]) / "adapter" / "adapter.safetensors").is_file()
    code, told, err = command("retrofit", str(runs), "--report", str(tmp_path / "retrofit.md"))
    assert code == 0 and "looped, r = 2 − control" in (tmp_path / "retrofit.md").read_text(), err
    for wrong, says in (
        (given, "--data"),
        (["retrofit", "plain"], "--body"),
        ([*given, *texts, "--loop", "spin"], "loop='spin'"),
        ([*given, *texts, "--stop", "7", "--out", str(tmp_path / "far")], "stop=7"),
    ):
        code, _, err = command(*wrong)
        assert code == 2 and says in err, wrong


def test_dynamics_names_every_analysis():
    import inspect

    from app.cli import dynamics
    from probes.aggregation import ANALYSES

    told = str(inspect.signature(dynamics.command).parameters["analysis"].annotation)
    assert all(name in told for name in ANALYSES)
