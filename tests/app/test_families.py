"""Every page with a model of every loop family, as deep as the family goes."""

import pytest

from abbie_lens.loops import FAMILIES, AdaPonder, Spiral
from app.view import runs

from .test_pages import assert_calm, figures, texts

OF_THE_RUN = ("dynamics", "attention", "lens", "halting", "export")
"""Pages, after the first, that run the model or list what it gave: the others wait for a button."""
WITHOUT_PATTERNS = ("spiral", "ponder-2")
"""Families whose rows are no tokens, so that the page Attention says why there is nothing."""


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory, tiny_model, tiny_tokenizer):
    """`folder_of(loop)`: a tiny saved model of it, in the shape that the family asks for."""

    def make(loop):
        shape = {
            name: value
            for name, value in loop.shape(32).items()
            if name in ("n_head_blocks", "n_body_blocks", "n_tail_blocks")
        }
        shape["n_body_blocks"] = min(2, shape.get("n_body_blocks", 2))
        shape["n_iters"] = min(2, loop.max_depth or 2)
        model = tiny_model(
            loop, tokenizer=tiny_tokenizer, d_vocab=300, n_ctx=64,
            model_name=f"tiny-{loop.family}", **shape,
        )  # fmt: skip
        return model.save_pretrained(tmp_path_factory.mktemp("family") / f"tiny-{loop.family}")

    return make


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_page_of_the_run_opens_with_every_family(dashboard, folder_of, family):
    """Asked for r = 3 by the address, which AdaPonder with its two gates refuses."""
    folder = folder_of(FAMILIES[family]())
    at = dashboard("overview.py", models=(str(folder),), query={"r": "3"})
    deepest = runs.deepest(str(folder))
    assert at.sidebar.slider(key="r").value == min(3, deepest or 3)
    assert_calm(at)
    assert figures(at)
    for page in OF_THE_RUN:
        at.switch_page(f"screens/{page}.py").run()
        if page == "attention" and family in WITHOUT_PATTERNS:
            assert not at.exception and not figures(at)
            said = texts(at)
            assert "cannot be run" in said and "tokens" in said
            continue
        assert_calm(at)
        assert bool(figures(at)) == (page != "export"), page


@pytest.mark.parametrize("loop", [AdaPonder(max_iters=3), Spiral((2, 1), beyond="refuse")])
def test_r_ends_where_the_model_refuses(dashboard, folder_of, loop):
    at = dashboard("lens.py", models=(str(folder_of(loop)),), query={"r": "20"})
    assert_calm(at)
    slider = at.sidebar.slider(key="r")
    assert (slider.max, slider.value) == (loop.max_depth, loop.max_depth)
    assert f"refuses more than {loop.max_depth}" in texts(at.sidebar)


def test_a_model_with_one_iteration_has_no_slider(dashboard, folder_of):
    loop = Spiral((1,), beyond="refuse")
    at = dashboard("overview.py", models=(str(folder_of(loop)),))
    assert_calm(at)
    assert not at.sidebar.slider and "r = 1" in texts(at.sidebar)


def test_another_model_takes_over_r_as_far_as_it_goes(dashboard, folder_of, model_folders):
    shallow = folder_of(AdaPonder())
    at = dashboard("lens.py", models=(str(model_folders[0]), str(shallow)), query={"r": "9"})
    assert at.sidebar.slider(key="r").value == 9
    at.sidebar.selectbox(key="model").set_value(str(shallow)).run()
    assert_calm(at)
    assert at.sidebar.slider(key="r").value == 2
    at.sidebar.selectbox(key="model").set_value(str(model_folders[0])).run()
    assert_calm(at)
    assert at.sidebar.slider(key="r").max == 32
