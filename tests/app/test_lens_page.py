"""The page Lens: rows of blocks, ranks of the chosen token, lenses that are made there, and what a bundle holds."""

import json

import pytest

from abbie_lens import load
from app.view import lens_fits
from probes.lenses import find

from .test_pages import assert_calm, figures, texts, titles


def test_blocks_add_rows_and_ranks_stand_below(dashboard):
    plain, blocks = (dashboard("lens.py", query=q) for q in ({}, {"blocks": "true"}))
    for at in (plain, blocks):
        assert_calm(at)
    grids = [figures(at)[0] for at in (plain, blocks)]
    assert [len(grid["data"][0]["customdata"]) for grid in grids] == [5, 5 + 2 * 4]
    assert "body.0" in grids[1]["layout"]["yaxis"]["ticktext"]
    assert titles(plain)[1].startswith("Ranks") and lens_fits.SLOT not in plain.session_state


def test_the_logit_is_taken_apart_and_concept_space_is_entered_and_left(dashboard):
    at = dashboard("lens.py", query={"r": "2", "logit_parts": "true", "concept_space": "true"})
    assert_calm(at)
    assert len(titles(dashboard("lens.py", query={"r": "2"}))) == 2  # nothing is computed unasked
    said = "\n".join(titles(at))
    assert "Direct logit attribution" in said and "Into concept space" in said


@pytest.mark.parametrize("kind", ["tuned", "jacobian"])
def test_a_lens_that_is_missing_is_made_and_kept(dashboard, model_folders, monkeypatch, kind):
    monkeypatch.setattr(lens_fits, "STEPS", 1)
    monkeypatch.setattr(lens_fits, "TEXTS", 1)
    monkeypatch.setattr(lens_fits, "WINDOW", 20)
    asked = {"lens": "Tuned" if kind == "tuned" else "Jacobian", "r": "2"}
    at = dashboard("lens.py", query=asked)
    assert (
        f"No {'tuned' if kind == 'tuned' else 'Jacobian'} lens of this model for r = 2 yet"
        in texts(at)
        and not figures(at)
    )
    next(b for b in at.button if b.label == "Make it from the sample text").click().run()
    at.session_state[lens_fits.SLOT][1].wait(60)
    at.run()
    assert_calm(at)
    assert kind.capitalize() in titles(at)[0]
    assert find(load(model_folders[0]), kind, 2) is not None
    again = dashboard("lens.py", query=asked)
    assert_calm(again)
    assert kind.capitalize() in titles(again)[0]


def test_the_command_makes_a_lens_that_the_library_finds(command, model_folders, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\f".join(["the cat sat on the mat, and the rat ran;"] * 6))
    given = (str(model_folders[0]), "--data", str(text), "-r", "1", "--json")
    code, out, _ = command("lens", "tuned", *given, "--steps", "2", "--test", str(text))
    told = json.loads(out)
    assert code == 0 and set(told["metrics"]) == {"held_out", "test"}
    assert set(told["metrics"]["test"]["kl"]) == {"tuned", "logit", "tail"}
    model = load(model_folders[0])
    assert find(model, "tuned", 1).metrics == told["metrics"]
    code, out, _ = command("lens", "jacobian", *given, "--texts", "2", "--window", "20", "--skip-first", "2")  # fmt: skip
    assert code == 0 and find(model, "jacobian", 1).settings["n_texts"] == 2
    code, _, err = command("lens", "jacobian", *given)
    assert code == 1 and "exists" in err
    code, _, err = command("lens", "tuned", *given, "--blocks", "some")
    assert code == 2 and "--blocks" in err
