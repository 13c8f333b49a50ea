"""`abbie-lens halting`: a table and a report in the folder, one line for what cannot be."""

import json

from tests.corpus import text


def test_a_study_from_the_command_line(command, model_folders, tmp_path):
    data = tmp_path / "texts.txt"
    data.write_text("\f".join(text(s, 36) for s in range(3)))
    asked = ("halting", str(model_folders[0]), "--data", str(data), "--out", str(tmp_path / "out"))
    few = ("-r", "3", "--points", "2", "--halting-rule", "kl")
    code, out, err = command(*asked, *few, "--json")
    assert code == 0, err
    assert {row["rule"] for row in json.loads(out)["rows"]} == {"kl", "oracle", "fixed"}
    assert (tmp_path / "out/report.html").is_file() and (tmp_path / "out/table.parquet").is_file()
    code, out, err = command(*asked, *few)
    assert code != 0 and "out" in err.strip().splitlines()[-1] and "Traceback" not in err
    code, _, err = command(*asked[:-1], str(tmp_path / "b"), "--halting-rule", "kll")
    assert code == 2 and "kll" in err
