"""Page Probes: labels from a text, an uploaded treebank or table, a task."""

import numpy as np
import pytest

from abbie_lens import load
from app.view import plain
from tests.app.conftest import TEXT
from tests.app.test_pages import assert_calm, texts, titles

WORDS = {"the": "DET", "cat": "NOUN", "sat": "VERB", "ran": "VERB"}


def treebank(n=8):
    """Documents of a sentence each, the words in turn."""
    lines = []
    for number in range(n):
        lines.append("# newdoc")
        for i in range(12):
            word = [*WORDS][(i * (number + 1) + i // 3) % 4]
            lines.append(f"{i + 1}\t{word}\t_\t{WORDS[word]}\t_\t_\t{i}\tdep\t_\t_")
        lines.append("")
    return "\n".join(lines).encode() + b"\n"


def fit(at):
    next(b for b in at.button if b.label == "Fit the probes").click().run()
    at.session_state["probe_job"][1].wait(60)
    at.run()
    return at.session_state["probe_job"][1].result


def upload(at, source, name, content):
    at.segmented_control(key="label_source").set_value(source).run()
    at.main.file_uploader[0].set_value((name, content, "text/plain")).run()


def test_an_uploaded_treebank_is_probed(dashboard):
    at = dashboard("probes.py", query={"probe_r": "2"})
    upload(at, "conllu", "a.conllu", treebank())
    result = fit(at)
    assert_calm(at)
    assert result.label == "upos" and result.classes == ("DET", "NOUN", "VERB")


def test_an_uploaded_table_is_probed(dashboard):
    at = dashboard("probes.py", query={"probe_r": "2"})
    rows = ["document,text,start,end,label"]
    for document in range(6):
        words = ["the cat sat ran"] * 4
        rows += [
            f"{document},{' '.join(words)} {document},{16 * i},{16 * i + 3},DET" for i in range(4)
        ]
        rows += [f"{document},,{16 * i + 4},{16 * i + 7},NOUN" for i in range(4)]
    upload(at, "table", "a.csv", "\n".join(rows).encode())
    result = fit(at)
    assert_calm(at)
    assert result.classes == ("DET", "NOUN")


@pytest.mark.parametrize(
    "source, name, content, said",
    [
        ("conllu", "<b>.conllu", b"1\tthe\n", "<b>.conllu"),
        ("conllu", "a.conllu", b"\xff\xfe", "not UTF-8"),
        ("table", "a.csv", b"text,start,stop\na,0,1\n", "no column 'end'"),
        ("table", "a.csv", b"text,start,end,label\na,0,5,x\n", "one class"),
    ],
)
def test_files_that_cannot_be_read_are_said_calmly(dashboard, source, name, content, said):
    at = dashboard("probes.py")
    upload(at, source, name, content)
    assert not at.exception
    assert "cannot be read" in texts(at) and said in texts(at)
    assert next(b for b in at.button if b.label == "Fit the probes").disabled


def test_a_file_that_is_too_large_is_refused(dashboard, monkeypatch):
    from app.view import labels

    monkeypatch.setattr(labels, "MAX_MEGABYTES", 1)
    at = dashboard("probes.py")
    upload(at, "conllu", "a.conllu", b"#" * (3 << 19))
    assert not at.exception and "at most 1 MB" in texts(at)


def test_a_model_of_a_task_is_asked_for_its_answers(dashboard, task_model_folder):
    at = dashboard(
        "probes.py", query={"prompt": None, "probe_r": "2"}, models=(str(task_model_folder),)
    )
    at.segmented_control(key="label_source").set_value("task").run()
    result = fit(at)
    assert_calm(at)
    assert result.label == "answer"


def show(at, view):
    at.segmented_control(key="probe_view").set_value(view).run()
    assert_calm(at)


def test_every_view_of_a_fit_has_a_sentence_of_its_own(dashboard):
    from probes.readings import linear as readings

    at = dashboard("probes.py", query={"probe_r": "2"})
    upload(at, "conllu", "a.conllu", treebank())
    result = fit(at)
    assert plain.markdown(readings.said(result)) in texts(at)
    show(at, "selectivity")
    assert plain.markdown(readings.selective(result)) in texts(at)
    show(at, "confusion")
    assert plain.markdown(readings.confused(result, None, 2)) in texts(at)
    assert "Confusion at k = 2" in titles(at)[0]
    at.slider(key="probe_k_2").set_value(0).run()
    assert "Confusion at k = 0" in titles(at)[0]
    assert plain.markdown(readings.confused(result, None, 0)) in texts(at)


def test_the_prompt_is_read_by_the_probes(dashboard, model_folders):
    at = dashboard("probes.py", query={"probe_r": "2"})
    upload(at, "conllu", "a.conllu", treebank())
    result = fit(at)
    show(at, "prompt")
    at.main.selectbox(key="token").set_value(3).run()
    overlay = result.fitted().predict_on(load(model_folders[0]), TEXT)
    table = at.dataframe[0].value
    assert table["class"].tolist() == [result.classes[c] for c in overlay.said[:, 0, 3]]
    np.testing.assert_allclose(table["p"], overlay.outputs[:, 0, 3].max(-1), atol=1e-5)
    at.sidebar.selectbox(key="model").select(str(model_folders[1])).run()
    assert not at.exception and "another model" in texts(at)
