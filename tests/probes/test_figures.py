"""Figures show what results hold: escaped labels, one scale for trained and random, blanks for undefined."""

import json
import re

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD
from probes.figures import style
from probes.figures.grid import token_grid
from probes.fixed_points import fixed_point
from probes.trajectory import trajectories

NASTY = ("<b>bold</b>", "&amp;", "<|endoftext|>", " \n", "<script>alert(1)</script>", "$x$", "%{x}")
FIXED_VIEWS = [
    {"view": "distances"},
    {"view": "distances", "lines": True},
    {"view": "norm"},
    {"view": "limit"},
    {"view": "angle"},
    {"view": "second_order"},
    *({"view": "tokens", "metric": m} for m in ("direction", "angle", "norm_ratio", "relative")),
]
PATH_VIEWS = [
    {"view": "paths"},
    {"view": "paths", "position": 2},
    {"view": "orbits", "pair": (2, 3)},
    {"view": "orbits", "positions": [1, 4]},
    {"view": "waterfall"},
    {"view": "phase"},
    {"view": "phase", "position": 4, "pair": (2, 3)},
]


@pytest.fixture(scope="module")
def nasty_model(tiny_model):
    """A model whose token i is called NASTY[i]."""
    model = tiny_model(AbbieD(), model_name="<i>model</i>")
    model.to_str_tokens = lambda ids: [NASTY[int(i)] for i in ids]
    return model


@pytest.fixture(scope="module")
def fixed(nasty_model):
    ids = [list(range(len(NASTY))), [1, 2, 3, 0, 0, 0, 0]]
    # Another seed than the model's own: the control must differ from it.
    return fixed_point(nasty_model, ids, 8, seed=1, attention_mask=[[1] * 7, [1, 1, 1, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def paths(nasty_model):
    return trajectories(nasty_model, [list(range(len(NASTY)))], 8)


def texts(figure):
    """Every string of a figure that Plotly reads as pseudo-HTML."""
    layout = figure.layout
    yield from (layout.title.text, layout.title.subtitle.text)
    yield from (a.text for a in layout.annotations)
    for axis in [*figure.select_xaxes(), *figure.select_yaxes()]:
        yield from (axis.title.text or "", *(axis.ticktext or ()))
    for trace in figure.data:
        yield from (trace.name or "", trace.hovertemplate or "")
        custom = trace.customdata if trace.customdata is not None else []
        yield from (str(c) for c in np.asarray(custom, dtype=object).reshape(-1))
        yield from (str(t) for t in np.asarray(trace.text or [], dtype=object).reshape(-1))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("options", FIXED_VIEWS + PATH_VIEWS, ids=str)
def test_every_view_draws_and_escapes_every_string(fixed, paths, options, theme):
    result = fixed if options in FIXED_VIEWS else paths
    figure = result.figure(theme=theme, **options)
    json.loads(figure.to_json())
    assert figure.layout.template == style.new_figure("", theme=theme).layout.template
    ours = re.compile(r"</?(b|br|sup|sub|span|extra)( style=\"color:#[0-9a-f]{6}\")?>")
    for text in texts(figure):
        assert "<" not in ours.sub("", text), text
        assert "<b>bold" not in text and "$x$" not in text
    assert "&lt;i&gt;model" in figure.layout.title.subtitle.text
    assert "r = 8" in figure.layout.title.subtitle.text
    assert [a for a in figure.layout.annotations if a.name == "caption" and a.text]


def test_curves_are_the_results_own_quantiles(fixed):
    figure = fixed.figure()
    medians = [t for t in figure.data if t.mode == "lines+markers" and t.name == "trained weights"]
    np.testing.assert_array_equal(medians[0].y, fixed.quantiles("raw", (0.5,))[0])
    np.testing.assert_array_equal(medians[3].y, fixed.quantiles("direction", (0.5,))[0])
    assert len([t for t in figure.data if t.name == "random weights"]) == len(medians) == 6
    assert len([t for t in fixed.figure(view="angle").data if t.showlegend]) == 2


def test_trained_and_random_weights_share_one_scale_and_blanks_stay_blank(fixed):
    for metric in ("direction", "angle", "norm_ratio"):
        trained, random = fixed.figure(view="tokens", metric=metric).data
        assert (trained.zmin, trained.zmax) == (random.zmin, random.zmax)
        assert not np.array_equal(trained.z, random.z)
        both = np.concatenate([np.ravel(trained.z), np.ravel(random.z)])
        both = both[np.isfinite(both)]
        assert trained.zmin <= both.min() and both.max() <= trained.zmax
    angle = fixed.figure(view="tokens", metric="angle").data[0]
    assert angle.zmid == 0 and angle.zmin == -angle.zmax
    assert np.isnan(angle.z[0]).all() and np.isfinite(angle.z[1:]).all()
    ratio = fixed.figure(view="tokens", metric="norm_ratio").data[0]
    assert (
        ratio.zmid == 0 and ratio.zmin == -ratio.zmax
    )  # log10 of 1, the ratio that changes nothing
    np.testing.assert_allclose(10 ** ratio.z[1:], fixed.norm_ratio[1:, 0])


def test_padding_is_left_out_of_the_grid(fixed):
    figure = fixed.figure(view="tokens", batch=1)
    assert figure.data[0].z.shape == (8, 3)
    assert figure.layout.xaxis2.ticktext[0] == "&amp;amp;"


def test_special_tokens_are_greyed(fixed):
    ticks = fixed.figure(view="tokens").layout.xaxis2.ticktext
    assert ticks[2] == '<span style="color:#8a92a0">&lt;|endoftext|&gt;</span>'
    assert ticks[3] == "·↵"


def test_orbits_share_axes_and_h0_stands_apart(paths):
    figure = paths.figure(view="orbits")
    ranges = {tuple(a.range) for a in [*figure.select_xaxes(), *figure.select_yaxes()]}
    assert len(ranges) == 1
    h0 = [t for t in figure.data if t.marker.symbol == "circle-open"]
    assert len(h0) == len(NASTY)
    np.testing.assert_array_equal(h0[2].x, paths.centred[0, 0, [2], 0])
    coloured = [t for t in figure.data if t.marker.color is not None and t not in h0]
    assert all(np.min(t.marker.color) == 1 for t in coloured)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"view": "nothing"}, "nothing"),
        ({"view": "tokens", "metric": "nothing"}, "nothing"),
        ({"view": "tokens", "batch": 9}, "batch=9"),
        ({"view": "text", "batch": 9}, "batch=9"),
        ({"theme": "sepia"}, "sepia"),
    ],
)
def test_unknown_views_are_named(fixed, options, named):
    with pytest.raises(InputError, match=named):
        fixed.figure(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"view": "nothing"}, "nothing"),
        ({"view": "orbits", "pair": (1, 9)}, "pair"),
        ({"view": "orbits", "positions": [99]}, "positions"),
        ({"view": "waterfall", "components": [9]}, "components"),
        ({"view": "paths", "position": 99}, "position=99"),
        ({"view": "paths", "batch": 1}, "batch=1"),
    ],
)
def test_unknown_paths_are_named(paths, options, named):
    with pytest.raises(InputError, match=named):
        paths.figure(**options)


def test_long_prompts_are_labelled_sparsely():
    figure = style.new_figure("")
    style.token_axis(figure, ["word"] * 200)
    assert len(figure.layout.xaxis.tickvals) <= 64
    assert "one in 4" in figure.layout.xaxis.title.text


def test_log_grid_tells_zero_from_undefined_and_ticks_in_the_values_own_unit():
    figure = style.new_figure("")
    values = np.array([[0.0, 1e-6], [1e-3, np.nan]])
    token_grid(figure, values, ["a", "b"], name="step", log=True)
    zeros, trace = figure.data
    np.testing.assert_array_equal(np.isnan(zeros.z), [[False, True], [True, True]])
    assert zeros.colorscale[0][1] == zeros.colorscale[1][1] == style.palette("light").zero
    assert np.isnan(trace.z[0, 0]) and np.isnan(trace.z[1, 1])
    assert trace.z[0, 1] == -6 and trace.z[1, 0] == -3
    assert list(trace.colorbar.ticktext) == [f"10<sup>{p}</sup>" for p in (-6, -5, -4, -3)]
    assert "undefined" in trace.customdata[1][1] and "1e-06" in trace.customdata[0][1]


def test_series_differ_by_more_than_colour():
    looks = [style.series(i) for i in range(6)]
    assert len({look["dash"] for look in looks}) == len({look["symbol"] for look in looks}) == 6
    assert len(set(style.iteration_colors(16))) == 16


@pytest.mark.browser
def test_the_browser_shows_tokens_as_themselves(fixed, chromium, tmp_path):
    from playwright.sync_api import sync_playwright

    path = tmp_path / "figure.html"
    fixed.figure(view="tokens").write_html(path, include_plotlyjs=True)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 800, "height": 700})
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.goto(path.as_uri(), timeout=120_000)
        ticks = page.locator(".xaxislayer-above .x2tick text, .xaxislayer-below .x2tick text")
        ticks.first.wait_for(timeout=60_000)
        assert [t.strip() for t in ticks.all_text_contents()] == [
            "<b>bold</b>",
            "&amp;",
            "<|endoftext|>",
            "·↵",
            "<script>alert…",
            "$x$",
            "%{x}",
        ]
        box = page.locator(".nsewdrag").first.bounding_box()
        assert box is not None
        for position, token in ((0, "<b>bold</b>"), (6, "%{x}")):
            across = box["x"] + (position + 0.5) / len(NASTY) * box["width"]
            page.mouse.move(across, box["y"] + box["height"] / 2)
            hover = page.locator(".hoverlayer .hovertext", has_text=f"position {position}")
            hover.first.wait_for()
            assert (hover.first.text_content() or "").startswith(token)
        browser.close()
    assert not problems


def test_overflow_leaves_gaps_and_names_the_reason(iterated):
    model = iterated(lambda h, k: 3 * h + 1, torch.eye(4), dtype=torch.float32)
    result = fixed_point(model, [0, 1], 120, control=False)
    figure = result.figure()
    caption = next(a.text for a in figure.layout.annotations if a.name == "caption")
    assert "float64" in result.limit_reason
    assert result.limit_reason in caption.replace("<br>", " ")
    raw = next(t for t in figure.data if t.mode == "lines+markers")
    assert np.isfinite(raw.y[:30]).all() and np.isnan(raw.y[60:]).all()
