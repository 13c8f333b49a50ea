"""`abbie-lens probe`: labels of every kind, a folder that can be gone on with, errors in one line."""

import json

import numpy as np
import pandas as pd
import pytest

import probes
from abbie_lens import load
from abbie_lens.collecting import Collection
from probes import bundle
from probes.labels import read_table, table_label

WORDS = {"the": "DET", "a": "DET", "cat": "NOUN", "rat": "NOUN", "sat": "VERB", "ran": "VERB"}


def sentences(n_documents=6, n_words=30):
    rng = np.random.default_rng(0)
    return [rng.choice([*WORDS], n_words).tolist() for _ in range(n_documents)]


@pytest.fixture
def files(tmp_path):
    """The same words as a treebank, a table and a text."""
    conllu, rows, texts = [], [], []
    for number, words in enumerate(sentences()):
        conllu.append("# newdoc")
        at = 0
        for i, word in enumerate(words, start=1):
            conllu.append(f"{i}\t{word}\t_\t{WORDS[word]}\t_\t_\t{i - 1}\tdep\t_\t_")
            rows.append((number, " ".join(words), at, at + len(word), WORDS[word]))
            at += len(word) + 1
        conllu.append("")
        texts.append(" ".join(words))
    (tmp_path / "a.conllu").write_text("\n".join(conllu) + "\n")
    columns = ["document", "body", "start", "end", "kind"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "a.txt").write_text("\f".join(texts))
    return tmp_path


FAST = ("--n-iters", "1", "--json")


def test_a_treebank_and_a_table_of_the_same_words_say_the_same(files, model_folders, command):
    model, told = str(model_folders[0]), {}
    for name, given in {
        "bank": ("--labels", "upos", "--conllu", str(files / "a.conllu")),
        "table": ("--labels", "kind", "--table", str(files / "a.csv"), "--column", "text=body"),
    }.items():
        code, out, err = command("probe", model, *given, "--out", str(files / name), *FAST)
        assert code == 0, err
        told[name] = pd.DataFrame(json.loads(out)["rows"]).drop(columns="label")
    pd.testing.assert_frame_equal(told["bank"], told["table"])
    # Computed in the folder, it is what the analysis says at once.
    label = table_label(read_table(files / "a.csv"), column="kind", text="body")
    at_once = probes.linear(load(model), label=label, n_iters=1)
    kept = bundle.load(files / "bank" / "result").results["linear"]
    for name in ("trained", "untrained", "embedding", "majority", "counts"):
        np.testing.assert_allclose(getattr(kept, name), getattr(at_once, name), atol=1e-6)
    assert kept.classes == ("DET", "NOUN", "VERB") and kept.label == "upos"


def test_what_a_run_leaves_and_how_it_goes_on(files, model_folders, command):
    out = files / "run"
    given = ("probe", str(model_folders[0]), "--labels", "next_class", "--data", str(files / "a.txt"), "--out", str(out))  # fmt: skip
    code, told, err = command(*given, "--n-iters", "1")
    assert code == 0 and "best baseline" in told, err
    assert {"figure.html", "table.parquet", "result", "manifest.json"} <= {
        p.name for p in out.iterdir()
    }
    assert json.loads((out / "manifest.json").read_text())["complete"]
    before = pd.read_parquet(out / "table.parquet")
    code, _, err = command(*given, "--n-iters", "1")
    assert code == 1 and "exists" in err and "--resume" in err
    # As after a kill: the fits and half of the states are lost, what is whole is not made again.
    (out / "table.parquet").unlink()
    for path in (out / "untrained").glob("shard-*"):
        path.unlink()
    kept = [p.stat().st_mtime_ns for p in sorted((out / "states").glob("shard-*"))]
    code, _, err = command(*given, "--n-iters", "1", "--resume")
    assert code == 0, err
    assert kept == [p.stat().st_mtime_ns for p in sorted((out / "states").glob("shard-*"))]
    assert len(list(Collection.open(out / "untrained").shards())) >= 1
    pd.testing.assert_frame_equal(before, pd.read_parquet(out / "table.parquet"))
    code, _, err = command(*given, "--n-iters", "2", "--resume")
    assert code == 2 and "begun with" in err


def test_trees_are_probed_from_a_treebank(files, model_folders, command):
    text = (files / "a.conllu").read_text().replace("# newdoc", "\n# newdoc")
    (files / "b.conllu").write_text(text)
    code, told, err = command(
        "probe", str(model_folders[0]), "--labels", "structural", "--conllu", str(files / "b.conllu"),
        "--out", str(files / "run"), "--n-iters", "1",
    )  # fmt: skip
    assert code == 0 and "Edges of the tree found at k = 1" in told, err
    kept = bundle.load(files / "run" / "result").results["structural"]
    # each word hangs from the one before it
    assert kept.chain[0, 0] == 1


def test_a_task_is_asked_with_the_settings_of_its_model(tmp_path, task_model_folder, command):
    code, told, err = command(
        "probe", str(task_model_folder), "--labels", "answer", "--task", "k-hop", "--max-tokens", "800",
        "--out", str(tmp_path / "run"), *FAST,
    )  # fmt: skip
    assert code == 0, err
    assert {row["label"] for row in json.loads(told)["rows"]} == {"answer"}


@pytest.mark.parametrize(
    "given, said",
    [
        (("--labels", "upos"), "needs a treebank"),
        (("--labels", "nex_class"), "Nearest: next_class"),
        (("--labels", "upos", "--conllu", "a.conllu", "--table", "a.csv"), "--conllu"),
        (("--labels", "upos", "--conllu", "absent"), "can't be read"),
        (("--labels", "kinds", "--table", "a.csv", "--column", "text=body"), "Nearest: kind"),
        (("--labels", "kind", "--table", "a.csv", "--column", "body"), "ROLE=NAME"),
        (("--labels", "next_class", "--column", "text=body"), "is of a --table"),
        (("--labels", "answer", "--task", "hops"), "known are"),
        (("--labels", "xpos", "--conllu", "a.conllu"), "says it of no word"),
        (("--labels", "deprel", "--conllu", "a.conllu"), "two classes"),
        (("--labels", "next_class", "--data", "one.txt"), "1 document"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    files, model_folders, command, monkeypatch, given, said
):
    monkeypatch.chdir(files)
    (files / "one.txt").write_text("the cat")
    code, _, err = command("probe", str(model_folders[0]), *given, "--out", "run", *FAST)
    assert code == 2 and said in err
    assert not (files / "run").exists()
