"""Parts of the dashboard that need no browser and no server."""

import io
import time
import zipfile

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abbie_lens import halting
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD
from app import exporting
from app.settings import Settings
from app.view import bundles, comparing, downloads, plain, scales, thresholds
from app.view.jobs import Job
from probes.figures.grid import token_grid
from probes.progress import Cancelled


def test_settings_survive_the_environment():
    settings = Settings(models=("a b", "ü/c"), bundle="/some where", root="/r")
    assert Settings.from_env(settings.to_env()) == settings
    assert Settings.from_env({}) == Settings()


@given(st.text(alphabet="a*_`<>&$:[]()#!\\~|{}^=+-.\"'/@0", max_size=20))
def test_markdown_is_spelled_out(text):
    """Every character that Markdown or Streamlit may read as a command stands behind a backslash."""
    escaped = plain.markdown(text)
    rest = escaped
    for pair in [f"\\{char}" for char in "*_`<>&$:[]()#!\\~|{}^=+-.\"'/@"]:
        rest = rest.replace(pair, "") if pair != "\\\\" else rest
    assert set(rest.replace("\\\\", "")) <= set("a0⟨empty⟩")


@pytest.mark.parametrize("name", list(halting.RULES))
def test_every_rule_has_a_ladder_with_its_default(name):
    rule = halting.policy(name).describe()
    steps = thresholds.ladder(rule, 32)
    assert steps == sorted(set(steps)) and float(rule["threshold"]) in steps
    assert len({thresholds.text(step) for step in steps}) == len(steps)


def test_shared_scales_cover_both_figures():
    one = go.Figure([go.Scatter(x=[0, 1], y=[1, 10]), go.Heatmap(z=[[0, 1]])])
    other = go.Figure([go.Scatter(x=[0, 4], y=[5, 1000]), go.Heatmap(z=[[-3, np.nan]])])
    for figure in (one, other):
        figure.update_layout(yaxis={"type": "log"}, xaxis={})
    scales.share(one, other)
    assert one.layout.xaxis.range == other.layout.xaxis.range
    assert one.layout.yaxis.range == other.layout.yaxis.range
    low, high = one.layout.yaxis.range
    assert low <= 0 and high >= 3  # log10 of 1 and of 1000
    assert [(t.zmin, t.zmax) for t in (one.data[1], other.data[1])] == [(-3, 1)] * 2


def test_shared_scales_leave_token_axes_alone():
    one, other = (
        go.Figure(go.Scatter(x=[0, 1], y=[0, 1])),
        go.Figure(go.Scatter(x=[0, 9], y=[0, 1])),
    )
    one.update_layout(xaxis={"tickvals": [0, 1], "ticktext": ["a", "b"], "range": [0, 1]})
    other.update_layout(xaxis={"tickvals": [0], "ticktext": ["c"], "range": [0, 9]})
    scales.share(one, other)
    assert (one.layout.xaxis.range, other.layout.xaxis.range) == ((0, 1), (0, 9))


def test_shared_colours_skip_layers_without_a_scale_and_label_both_bars_alike():
    """Of two grids on log scales, one has cells of exactly 0, drawn as a layer below."""
    values = [np.array([[1e-8, 1.0]]), np.array([[1e-3, 0.0, 10.0]])]
    one, other = (go.Figure(), go.Figure())
    for figure, grid in zip((one, other), values, strict=True):
        token_grid(figure, grid, ["a", "b", "c"][: grid.shape[1]], name="KL", log=True)
        figure.add_heatmap(z=[[7.0]], showscale=False)  # a veil
    assert [len(figure.data) for figure in (one, other)] == [2, 3]
    scales.share(one, other)
    left, right = one.data[0], other.data[1]
    assert (left.zmin, left.zmax) == (right.zmin, right.zmax) == (-8, 1)
    assert left.colorbar.ticktext == right.colorbar.ticktext
    assert min(left.colorbar.tickvals) == -8
    assert other.data[0].zmin is None and one.data[1].zmin is None


@pytest.fixture
def results(tiny_model, tiny_tokenizer):
    """One result of each analysis of a long prompt, by a model with a long name."""
    model = tiny_model(
        AbbieD(), tokenizer=tiny_tokenizer, d_vocab=300, model_name="a-model-with-a-long-name" * 3
    )
    return exporting.results(model, "the cat sat on the mat, and the rat ran " * 2, 4)


@pytest.mark.parametrize("look", list(comparing.LOOKS))
def test_half_a_page_holds_subtitle_and_legend(results, look):
    """In 357 pixels, what two columns have at 1160: 64 stand before the plot, and an advance of 6.2
    is that of 12 pixel letters; one line of a legend takes one entry."""
    _, kind, prepare, view = comparing.LOOKS[look]
    result = prepare(results[kind])
    figure = comparing.half(result, **view)
    lines = figure.layout.title.subtitle.text.split("<br>")
    assert len(lines) == 2 and "…" in lines[0] and "…" in lines[1]
    assert all(64 + 6.2 * len(line) < 357 for line in lines)
    assert not any(a.visible is not False for a in figure.select_annotations({"name": "caption"}))


def test_plots_side_by_side_begin_below_the_longer_legend():
    def figure(n_entries):
        traces = [go.Scatter(y=[0], name=f"n{i}") for i in range(n_entries)]
        drawn = go.Figure([*traces, go.Scatter(y=[1], name="band", showlegend=False)])
        return drawn.update_layout(height=390, margin_t=100, legend={"x": 0, "yref": "container"})

    one, three = figure(1), figure(3)
    comparing.level(one, three)
    assert one.layout.margin.t == three.layout.margin.t
    legend_ends = 390 * (1 - three.layout.legend.y) + 3 * 19
    assert legend_ends < three.layout.margin.t < 200
    alone = figure(1), figure(1)
    comparing.level(*alone)
    assert [f.layout.margin.t for f in alone] == [100, 100]  # one entry makes no legend


def test_a_job_reports_progress_and_its_result():
    def work(progress):
        for done in range(3):
            assert progress(done + 1, 3)
        return "done"

    job = Job(work)
    job.wait(5)
    assert (job.result, job.error, job.fraction, job.running) == ("done", None, 1.0, False)


def test_a_cancelled_job_stops_at_its_next_report():
    seen = []

    def work(progress):
        while True:
            seen.append(1)
            if progress(len(seen), 0) is False:
                raise Cancelled("stopped")
            time.sleep(0.01)

    job = Job(work)
    job.cancel()
    job.wait(5)
    assert not job.running and job.cancelled and job.error is None and job.result is None


def test_an_error_in_a_job_is_kept_for_the_page():
    job = Job(lambda progress: 1 / 0)
    job.wait(5)
    assert isinstance(job.error, ZeroDivisionError)


def test_zip_of_a_folder_unpacks_to_the_same_files(tmp_path):
    folder = tmp_path / "run"
    (folder / "tables").mkdir(parents=True)
    (folder / bundles.MANIFEST).write_text("{}")
    (folder / "tables" / "a.csv").write_text("x")
    root = bundles.unpack(bundles.pack(folder), tmp_path / "out")
    assert (root / bundles.MANIFEST).read_text() == "{}"
    assert (root / "tables" / "a.csv").read_text() == "x"


def test_a_zip_cannot_write_outside_its_folder(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.txt", "x")
        archive.writestr(bundles.MANIFEST, "{}")
    bundles.unpack(buffer.getvalue(), tmp_path / "a" / "b")
    assert not list(tmp_path.glob("evil.txt")) and not list(tmp_path.glob("a/evil.txt"))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_another_kind_of_file_is_refused(tmp_path, content):
    with pytest.raises(InputError, match="zip"):
        bundles.unpack(content, tmp_path)


def test_a_zip_without_a_manifest_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "other.txt").write_text("x")
    with pytest.raises(InputError, match=r"manifest\.json"):
        bundles.unpack(bundles.pack(tmp_path / "in"), tmp_path / "out")


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "MAX_BYTES", 1000)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / bundles.MANIFEST).write_text("0" * 2000)
    with pytest.raises(InputError, match="unpacks to"):
        bundles.unpack(bundles.pack(tmp_path / "in"), tmp_path / "out")


def test_downloads_are_what_save_writes(tiny_model, tiny_tokenizer):
    import pandas as pd

    import probes

    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, model_name="a/b <c>")
    result = probes.lens(model, "the cat sat", 3)
    table = pd.read_parquet(io.BytesIO(downloads.contents(result, "parquet")))
    pd.testing.assert_frame_equal(table, result.to_frame())
    columns = downloads.contents(result, "csv").decode().splitlines()[0]
    assert columns == ",".join(f'"{name}"' for name in result.to_frame().columns)
    assert b"<html" in downloads.contents(result, "html")[:500].lower()
    assert downloads.file_name(result, "lens", "csv") == "a-b-c-lens-r3.csv"
