"""The result protocol: frozen arrays, files that appear whole, and taking apart without loss."""

import json
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from abbie_lens.errors import ExistsError, InputError
from abbie_lens.info import ModelInfo
from probes.result import Result
from probes.tidy import tidy

INFO = ModelInfo("a <b> model", "map", "0" * 8, 7, 2, "float32")
TOKENS = (("<b>x</b>", '"', "\n"), ("&amp;", ",", "</script><script>alert(1)</script>"))


@dataclass(frozen=True, eq=False, kw_only=True)
class Probe(Result):
    title = "A probe"
    formula = "x < y"

    values: np.ndarray
    verdict: np.ndarray = field(default_factory=lambda: np.array([["a", "ß", ""], ["", "", "b"]]))
    settings: dict = field(default_factory=dict)
    limits: tuple = ()
    parts: dict = field(default_factory=dict)
    control: Result | None = None

    def to_frame(self):
        return tidy(self.tokens, {"value": self.values})

    def figure(self, *, theme="light", **view):
        return go.Figure(go.Scatter(x=[0], y=[0], text=[self.tokens[1][2]]))


@pytest.fixture
def result():
    values = np.arange(12.0).reshape(2, 2, 3)
    values[1, 1, 2] = np.nan
    inner = Probe(model=INFO, tokens=TOKENS, n_iters=2, values=-values)
    return Probe(
        model=INFO,
        tokens=TOKENS,
        n_iters=2,
        values=values,
        settings={"threshold": float("inf"), "names": ("a", "b"), "none": None, "on": True},
        limits=(1.5, float("nan")),
        parts={"ids": np.array([1, 2], dtype=np.int64), "mask": np.array([True, False])},
        control=inner,
    )


def test_arrays_cannot_be_written_and_the_callers_can(result):
    mine = np.zeros(3)
    probe = Probe(model=INFO, tokens=TOKENS, n_iters=0, values=mine)
    with pytest.raises(ValueError, match="read-only"):
        probe.values[0] = 1
    mine[0] = 1
    with pytest.raises(AttributeError):
        result.n_iters = 3


def test_taking_apart_and_putting_together_loses_nothing(result):
    arrays, meta = result.to_arrays()
    assert {a.dtype.kind for a in arrays.values()} <= set("biuf")
    meta = json.loads(json.dumps(meta, allow_nan=False))
    again = Result.from_arrays(arrays, meta)
    assert isinstance(again, Probe) and isinstance(again.control, Probe)
    np.testing.assert_array_equal(again.values, result.values)
    np.testing.assert_array_equal(again.control.values, -result.values)
    np.testing.assert_array_equal(again.verdict, result.verdict)
    assert again.verdict.dtype.kind == "U"
    assert again.settings == result.settings
    assert again.limits[0] == 1.5 and np.isnan(again.limits[1])
    assert again.parts["ids"].dtype == np.int64 and again.parts["mask"].tolist() == [True, False]
    assert again.model == INFO and again.tokens == TOKENS


def test_a_missing_array_and_a_strange_class_are_named(result):
    arrays, meta = result.to_arrays()
    with pytest.raises(InputError, match="values"):
        Result.from_arrays({k: v for k, v in arrays.items() if k != "values"}, meta)
    with pytest.raises(InputError, match="Nothing"):
        Result.from_arrays(arrays, meta | {"class": "Nothing"})

    @dataclass(frozen=True, eq=False, kw_only=True)
    class OtherProbe(Result):
        pass

    with pytest.raises(InputError, match="OtherProbe"):
        OtherProbe.from_arrays(arrays, meta)


def test_a_field_that_no_file_can_hold_is_refused_by_name():
    probe = Probe(model=INFO, tokens=TOKENS, n_iters=0, values=np.zeros(1), settings={"f": print})
    with pytest.raises(TypeError, match="settings"):
        probe.to_arrays()


def test_a_class_name_belongs_to_one_module():
    with pytest.raises(TypeError, match="Probe"):
        type("Probe", (Result,), {"__module__": "elsewhere"})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_come_back_equal(result, tmp_path, suffix):
    path = result.save(tmp_path / "new" / f"table.{suffix}")
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    options = {"keep_default_na": False, "na_values": {"value": [""]}} if suffix == "csv" else {}
    pd.testing.assert_frame_equal(read(path, **options), result.to_frame(), check_dtype=False)


def test_json_is_strict_and_holds_table_and_meta(result, tmp_path):
    document = json.loads(
        result.save(tmp_path / "r.json").read_text(),
        parse_constant=lambda c: pytest.fail(f"not JSON: {c}"),
    )
    assert document["formula"] == "x < y" and document["meta"]["class"] == "Probe"
    assert len(document["table"]) == 12
    assert document["table"][-1]["value"] is None
    assert document["table"][0]["token"] == "<b>x</b>"


def test_html_is_self_contained_and_runs_no_script_of_a_prompt(result, tmp_path):
    text = result.save(tmp_path / "r.html").read_text()
    assert "alert(1)" in text and "alert(1)</script>" not in text
    assert "<script src" not in text and "Plotly.newPlot" in text


def test_saving_never_overwrites_unasked_and_leaves_no_pieces(result, tmp_path, monkeypatch):
    path = result.save(tmp_path / "table.csv")
    before = path.read_bytes()
    with pytest.raises(ExistsError, match=r"table\.csv"):
        result.save(path)
    with pytest.raises(InputError, match=r"\.docx"):
        result.save(tmp_path / "table.docx")

    def interrupted(frame, file, **options):
        file.write_text("batch,posi")
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", interrupted)
    with pytest.raises(KeyboardInterrupt):
        result.save(path, overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    monkeypatch.undo()
    assert result.save(path, overwrite=True).read_bytes() == before


def test_tidy_lines_up_iterations_tokens_and_padding():
    steps, levels = np.arange(12.0).reshape(2, 2, 3), np.arange(18.0).reshape(3, 2, 3)
    per_token = np.array([["a", "b", "c"], ["d", "e", "f"]])
    valid = np.array([[True, True, True], [True, False, False]])
    frame = tidy(TOKENS, {"step": steps, "level": levels, "mark": per_token}, valid=valid, first=1)
    assert len(frame) == 4 * 3
    for row in frame.itertuples():
        k, b, p = row.iteration - 1, row.batch, row.position
        assert row.level == levels[k, b, p] and row.mark == per_token[b, p]
        assert row.token == TOKENS[b][p]
        assert (row.step == steps[k, b, p]) if k < 2 else np.isnan(row.step)
