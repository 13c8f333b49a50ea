"""docs/thresholds.md says what was measured, and the lines part the models whose answer is known."""

import json

import numpy as np
import pytest

from benchmarks import thresholds

STORED = json.loads(thresholds.FILE.read_text("utf-8"))


def values(measure, model):
    stored = STORED["measures"][measure][model]
    return np.array([stored["trained"], *stored["random"]])


def test_the_document_is_made_of_the_stored_numbers():
    assert thresholds.FILE.with_suffix(".md").read_text("utf-8") == thresholds.document(STORED)


@pytest.mark.parametrize("measure", ["decay", "readout", "overlap"])
def test_a_line_parts_what_comes_to_rest_from_what_never_does(measure):
    """AbbIE-D's direction comes to rest with any weights; AbbIE-C's with none."""
    (line,) = thresholds.MEASURES[measure].lines
    above = measure != "readout"
    assert ((values(measure, "abbie-d-novels") > line) == above).all()
    assert (values(measure, "abbie-c-novels")[0] > line) != above


def test_no_token_of_a_state_that_grows_by_equal_portions_settles():
    assert (values("settled", "abbie-c-novels") == 0).all()
    assert (values("settled", "abbie-d-novels") == 1).all()


def test_numbers_are_taken_as_they_were(monkeypatch):
    monkeypatch.setattr(thresholds, "MODELS", ("abbie-c-novels",))
    again = thresholds.measure(draws=1)["measures"]
    for name in thresholds.MEASURES:
        assert again[name]["abbie-c-novels"]["random"][0] == pytest.approx(
            values(name, "abbie-c-novels")[1], rel=1e-2, abs=1e-6
        )
