"""`abbie-lens halting`: a table and a report in the folder, one line for what cannot be."""

import json

import pytest

from probes import bundle
from tests.abbie_lens.families import make
from tests.corpus import text


def test_a_study_from_the_command_line(command, model_folders, tmp_path):
    data = tmp_path / "texts.txt"
    data.write_text("\f".join(text(s, 36) for s in range(3)))
    asked = ("halting", str(model_folders[0]), "--data", str(data), "--out", str(tmp_path / "out"))
    few = ("-r", "3", "--points", "2", "--halting-rule", "kl")
    code, out, err = command(*asked, *few, "--json")
    assert code == 0, err
    assert {row["rule"] for row in json.loads(out)["rows"]} == {"kl", "oracle", "fixed"}
    assert (tmp_path / "out/bundle/report.html").is_file()
    assert (tmp_path / "out/table.parquet").is_file()
    held = bundle.load(tmp_path / "out/bundle").results["halting_study"]
    assert held.names == ("kl", "oracle")
    code, out, err = command(*asked, *few)
    assert code != 0 and "out" in err.strip().splitlines()[-1] and "Traceback" not in err
    code, _, err = command(*asked[:-1], str(tmp_path / "b"), "--halting-rule", "kll")
    assert code == 2 and "kll" in err


def test_thresholds_combinations_a_probe_and_a_certificate(command, tiny_tokenizer, tmp_path):
    model = make("abbie-d", tokenizer=tiny_tokenizer, d_vocab=300).save_pretrained(
        tmp_path / "tiny"
    )
    for name, seeds in (("texts", range(4)), ("others", range(4, 8))):
        (tmp_path / f"{name}.txt").write_text("\f".join(text(s, 30) for s in seeds))
    asked = ("halting", str(model), "--data", str(tmp_path / "texts.txt"), "-r", "3")
    asked += ("--out", str(tmp_path / "out"), "--rule", "kl", "--rule", "any:kl,cosine")
    asked += ("--threshold", "kl=0.25", "--mean-depth", "2")
    others = str(tmp_path / "others.txt")
    more = ("--calibrate", "0.5", "--delta", "0.4", "--fit-exit-probe", others)
    code, out, err = command(*asked, *more, "--json")
    assert code == 0, err
    said = json.loads(out)
    own = {row["rule"]: row["threshold"] for row in said["rows"] if row["point"] == 0}
    assert own["kl"] == 0.25 and own["any_of"] == 1 and "exit_probe" in own
    assert {row["rule"] for row in said["certified"]} == {"kl", "any_of", "exit_probe"}
    results = bundle.load(tmp_path / "out/bundle").results
    study = results["halting_study"]
    assert study.thresholds.shape == (4, 2)
    policies = study.rules[1]["policies"]
    assert [p["threshold"] for p in policies if p["name"] == "kl"] == [0.25]
    assert results["risk_kl"].n_documents == (2, 2) and "exit_probe" in results
    assert (tmp_path / "out/exit_probe.safetensors").is_file()
    code, out, err = command(*asked, *more, "--resume")
    assert code == 0 and "kl" in out.lower(), err
    code, _, err = command(*asked, "--fit-exit-probe", others, "--counted", "answers", "--resume")
    assert code == 2 and "no task" in err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--threshold", "kl"), "RULE=NUMBER"),
        (("--threshold", "cosine=0.1"), "none of the rules"),
        (("--rule", "most:kl,cosine"), "any:RULE"),
        (("--calibrate", "2"), "target=2"),
        (("--mean-depth", "9"), "mean_depths"),
    ],
)
def test_what_cannot_be_asked_is_one_line(command, model_folders, tmp_path, wrong, said):
    (tmp_path / "texts.txt").write_text(text(0, 36))
    asked = ("halting", str(model_folders[0]), "--data", str(tmp_path / "texts.txt"), "-r", "3")
    code, _, err = command(*asked, "--out", str(tmp_path / "out"), "--rule", "kl", *wrong)
    assert code == 2 and said in err.strip().splitlines()[-1] and "Traceback" not in err


def test_answers_of_a_task_and_resume(command, task_model_folder, tmp_path):
    from app.trained import own_task

    task = own_task(str(task_model_folder))
    batch = task.sample(0, 4, 1, split="test")
    rows = [task.text(row[real]) for row, real in zip(batch.tokens, batch.real, strict=True)]
    (tmp_path / "rows.txt").write_text("\f".join(rows))
    asked = ("halting", str(task_model_folder), "--data", str(tmp_path / "rows.txt"), "-r", "2")
    asked += ("--out", str(tmp_path / "out"), "--rule", "kl", "--points", "1")
    code, _, err = command(*asked, "--counted", "answers")
    assert code == 0, err
    held = bundle.load(tmp_path / "out/bundle").results["halting_study"]
    assert 0 < held.n_tokens < 40 * 4 and held.n_documents == 4
    code, _, err = command(*asked, "--resume")
    assert code == 2 and "counted" in err
