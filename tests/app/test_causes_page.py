"""The page Causes: patching on demand, its sentence and figure, the chosen cell, steering beside its placebo."""

import pytest

import probes
from abbie_lens import load
from app.view import causing, pairs
from probes.readings import causes

from .test_pages import assert_calm, figures, texts

CLEAN, CORRUPT = "the <b>cat</b> sat on the mat", "the <b>mat</b> sat on the mat"


def fill(at, **values):
    for box in (*at.main.text_area, *at.main.text_input):
        for name, value in values.items():
            if box.key.startswith(name):
                box.set_value(value)
    return at


def pressed(at, slot, label):
    next(b for b in at.main.button if b.label == label).click().run()
    assert_calm(at)
    at.session_state[slot][1].wait(60)
    return at.run()


def test_patching_waits_for_its_button_and_shows_what_the_function_finds(dashboard, model_folders):
    at = dashboard("causes.py")
    assert_calm(at)
    assert "Not computed yet" in texts(at) and not figures(at)
    fill(at, clean=CLEAN, corrupt=CORRUPT, control="", answer="the", other="")
    at = pressed(at, causing.PATCH, "Patch")
    assert_calm(at)
    found = probes.patching(load(model_folders[0]), CLEAN, CORRUPT, 4, answer="the")
    said = texts(at).replace("\\", "")
    assert causes.patched(found).replace("·", " ") in said, said[-700:]
    drawn = figures(at)[0]
    assert drawn["data"][0]["type"] == "heatmap"
    shown = "\n".join(code.value for code in at.main.code)
    assert "⟦cat⟧" in shown and "⟦mat⟧" in shown and "&lt;" not in shown
    assert any("After" in m.value for m in at.main.markdown)


def test_prompts_that_cannot_be_patched_are_told_calmly(dashboard):
    at = dashboard("causes.py")
    fill(at, clean="the cat", corrupt="the cat sat", control="")
    at = pressed(at, causing.PATCH, "Patch")
    assert "tokens; patching needs prompts of the same length" in texts(at)


def test_steering_stands_beside_a_random_direction(dashboard):
    at = dashboard("causes.py", query={"cause": "Steering"})
    fill(at, toward="the cat\nthe mat", away="the rat")
    at = pressed(at, causing.STEER, "Steer")
    assert_calm(at)
    said = texts(at)
    assert "A random direction, same length" in said and "random directions" in said
    assert any("the vector" in str(t.get("name")) for t in figures(at)[-1]["data"])


@pytest.mark.parametrize("row", ["a f ; c a ; f c ; a > > c ; c > f ;"])
def test_a_pair_of_k_hop_asks_two_nodes_of_one_map(row):
    example = pairs.hop_pair(row)
    assert (
        example.clean == "a f ; c a ; f c ; a > >" and example.corrupt == "a f ; c a ; f c ; c > >"
    )
    assert example.control == "a f ; c a ; f c ; f > >"


@pytest.mark.parametrize(
    ("panel", "kind"),
    [("Ablation", "ablation"), ("Noise", "recovery"), ("Iterations", "skipping"), ("What each is for", "specialisation")],
)  # fmt: skip
def test_what_is_lost_is_computed_when_it_is_asked_for(dashboard, panel, kind):
    at = dashboard("causes.py", query={"cause": panel, "r": "2", "prompt": "the cat"})
    assert_calm(at)
    assert "Not computed yet" in texts(at) and not figures(at)
    at = pressed(at, f"{kind}_job_0", "Compute")
    assert_calm(at)
    assert len(figures(at)) == 1
