"""Bundles: read back equal, written whole or not at all, never outside their folder."""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import probes
from abbie_lens.errors import ExistsError, InputError
from probes import bundle
from probes.bundle import places, report, writer
from probes.result import Result

PROMPT = "the <b>cat</b> & </script><script>alert(1)</script> sat 🙂"


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, model_name="tiny <i>model</i>")


@pytest.fixture(scope="module")
def results(model):
    halting = probes.halting(model, PROMPT, 3)
    documents = ["the cat sat on the mat", "and the rat ran", "then the cat ran", "a cat; a rat"]
    return {
        "fixed points": probes.fixed_point(model, PROMPT, 3),
        "trajectories": probes.trajectories(model, PROMPT, 3),
        "lens": probes.lens(model, PROMPT, 3),
        "halting": halting,
        "halting/kl": halting.at("kl", 0.01),
        "sweep": halting.sweep("kl"),
        "probes": probes.linear(model, documents, label="next_word_start", n_iters=1),
    }


@pytest.fixture(scope="module")
def states(model):
    _, cache = model.run_with_cache(PROMPT, n_iters=3, names_filter=["loop.hook_state"])
    return {"loop.hook_state": cache["loop.hook_state"], "row": cache["loop.hook_state@1"]}


@pytest.fixture(scope="module")
def original(results, states, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "run"
    return bundle.save(results, path, states=states, settings={"n_iters": 3, "text": PROMPT})


@pytest.fixture
def small(results, tmp_path):
    """A bundle of one result that a test may damage."""
    return bundle.save({"lens": results["lens"]}, tmp_path / "small", states={"z": torch.ones(3)})


def assert_equal(a, b, where=""):
    assert type(a) is type(b), where
    if isinstance(a, Result):
        for field in dataclasses.fields(a):
            assert_equal(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, np.ndarray):
        # The width of a string array is that of its longest entry, or wider: no part of its value.
        assert a.dtype == b.dtype or a.dtype.kind == b.dtype.kind == "U", where
        np.testing.assert_array_equal(a, b, err_msg=where)
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}[{key}]")
    elif isinstance(a, float) and a != a:
        assert b != b, where
    else:
        assert a == b, where


def test_every_analysis_reads_back_equal(original, results, states):
    opened = bundle.load(original)
    assert_equal(opened.results, dict(results))
    for name, result in opened.results.items():
        pd.testing.assert_frame_equal(result.to_frame(), results[name].to_frame())
        assert result.figure().to_json() == results[name].figure().to_json(), name
    assert opened.states.keys() == states.keys()
    for name, value in opened.states.items():
        assert torch.equal(value, states[name])


def test_a_loaded_replay_takes_new_thresholds(original, results):
    again = bundle.load(original).results["halting"]
    assert_equal(again.at("cosine", 0.3), results["halting"].at("cosine", 0.3))


def test_tables_are_the_tidy_frames(original, results):
    manifest = bundle.load(original).manifest
    for name, entry in manifest["results"].items():
        table = pd.read_parquet(original / entry["table"])
        expected = results[name].to_frame()
        assert list(table.columns) == list(expected.columns) and len(table) == len(expected)
        numbers = expected.select_dtypes("number").columns
        np.testing.assert_array_equal(
            table[numbers].to_numpy(float, na_value=np.nan),
            expected[numbers].to_numpy(float, na_value=np.nan),
        )


def test_manifest_says_where_the_numbers_come_from(original, model, results):
    manifest = json.loads((original / "manifest.json").read_text())
    assert manifest["schema_version"] == bundle.SCHEMA_VERSION
    assert manifest["models"] == [model.info().to_dict()]
    assert manifest["models"][0]["weight_hash"]
    assert manifest["settings"] == {"n_iters": 3, "text": PROMPT}
    assert manifest["tokens"][0][0] == list(results["lens"].tokens[0])
    assert manifest["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    for name, entry in manifest["results"].items():
        assert entry["formula"] == results[name].formula != ""
    on_disk = {p.relative_to(original).as_posix() for p in original.rglob("*") if p.is_file()}
    assert on_disk == {"manifest.json", *manifest["files"]}


def test_bfloat16_states_and_arrays_read_back(results, tmp_path):
    states = {"a": torch.ones(2, 3, dtype=torch.bfloat16), "b": np.arange(3)}
    path = bundle.save({"lens": results["lens"]}, tmp_path / "x", states=states)
    back = bundle.load(path).states
    assert back["a"].dtype == torch.bfloat16 and back["b"].tolist() == [0, 1, 2]
    none = bundle.save({"lens": results["lens"]}, tmp_path / "y")
    assert bundle.load(none).states == {}


def test_report_embeds_plotly_once_and_fetches_nothing(original):
    page = (original / "report.html").read_text()
    assert page.count("* plotly.js v") == 1
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=", page)
    assert "default-src 'none'" in page
    drawn = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])
    assert len(drawn) >= 7 and all(f.keys() == {"light", "dark"} for f in drawn.values())
    for figures in drawn.values():
        shown = str(figures["light"]["layout"])
        assert "tiny &lt;i&gt;model" in shown and ("r = 3" in shown or "r = 1" in shown)
        assert figures["light"]["layout"]["template"] != figures["dark"]["layout"]["template"]
    assert page.count("href='tables/") == 7


def test_report_shows_html_as_text(original):
    page = (original / "report.html").read_text()
    assert "alert(1)</script>" not in page and "<script>alert" not in page
    assert "<b>cat" not in page and "<i>model" not in page
    assert "tiny &lt;i&gt;model&lt;/i&gt;" in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    assert "sat 🙂</q>" in page  # the tokenizer cuts it into bytes


def test_json_in_a_script_cannot_end_it():
    value = {"</script>": "<!-- \u2028 & '"}
    text = report.in_script(value)
    assert not set("<>&\u2028") & set(text) and json.loads(text) == value


@pytest.mark.browser
def test_report_draws_every_figure_in_both_themes(original, chromium):
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 800, "height": 1000}, color_scheme="dark")
        problems: list[str] = []
        page.on(
            "console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.on("dialog", lambda d: (problems.append(d.message), d.dismiss()))
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith(("file:", "data:", "blob:")) else problems.append(r.url)
            ),
        )
        page.goto((original / "report.html").as_uri(), timeout=120_000)
        n_figures = page.locator(".plot").count()
        page.wait_for_function(
            f"document.querySelectorAll('.plot .main-svg').length >= {n_figures}", timeout=120_000
        )
        background = "getComputedStyle(document.body).backgroundColor"
        plot = "document.querySelector('.plot .bg, .plot .main-svg').style.background || ''"
        dark = page.evaluate(background), page.evaluate(plot)
        page.locator("#theme").click()
        light = page.evaluate(background), page.evaluate(plot)
        assert (
            dark[0] == "rgb(14, 17, 23)"
            and light[0] == "rgb(255, 255, 255)"
            and dark[1] != light[1]
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 800
        browser.close()
    assert problems == []


def test_existing_folders_are_left_alone(results, small, tmp_path):
    one = {"lens": results["lens"]}
    before = (small / "manifest.json").read_bytes()
    with pytest.raises(ExistsError, match="overwrite=True"):
        bundle.save(one, small)
    assert (small / "manifest.json").read_bytes() == before
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(ExistsError, match="Only a bundle"):
        bundle.save(one, other, overwrite=True)
    (small / "notes.txt").write_text("mine")
    with pytest.raises(ExistsError, match=r"notes\.txt"):
        bundle.save(one, small, overwrite=True)
    link = tmp_path / "link"
    link.symlink_to(other)
    with pytest.raises(ExistsError, match="symbolic link"):
        bundle.save(one, link, overwrite=True)
    assert (other / "thesis.tex").read_text() == "years of work"


def test_overwrite_replaces_a_bundle(results, small):
    bundle.save({"sweep": results["sweep"]}, small, overwrite=True)
    assert list(bundle.load(small).results) == ["sweep"]
    assert {p.name for p in small.parent.iterdir()} == {"small"}, "nothing is left behind"


@pytest.mark.parametrize("step", ["report", "rename"])
def test_a_failed_save_leaves_what_was_there(results, small, monkeypatch, step):
    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    if step == "report":
        monkeypatch.setattr(writer.report, "page", fail)
    else:
        real = os.rename
        monkeypatch.setattr(
            os, "rename", lambda a, b: fail() if ".partial-" in str(a) else real(a, b)
        )
    for target, overwrite in ((small, True), (small.parent / "new", False)):
        with pytest.raises(OSError, match="disk full"):
            bundle.save({"sweep": results["sweep"]}, target, overwrite=overwrite)
    monkeypatch.undo()
    assert list(bundle.load(small).results) == ["lens"]
    assert {p.name for p in small.parent.iterdir()} == {"small"}


def edit(folder: Path, change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "file", ["arrays/lens.safetensors", "tables/lens.parquet", "states.safetensors", "report.html"]
)
def test_truncated_changed_and_missing_files_are_named(small, file):
    path = small / file
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(InputError, match=f"{re.escape(file)}.*truncated"):
        bundle.load(small)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=f"{re.escape(file)}.*not what was written"):
        bundle.load(small)
    path.unlink()
    with pytest.raises(InputError, match=f"{re.escape(file)}.*missing"):
        bundle.load(small)


@pytest.mark.parametrize(
    "outside",
    ["../secret", "/etc/passwd", "arrays/../../secret", "C:\\secret", "arrays\\..\\x", ""],
)
def test_a_manifest_cannot_lead_outside(small, outside):
    (small.parent / "secret").write_bytes((small / "arrays/lens.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"outside the bundle|no file name"):
        places.inside(small, outside)
    for change in (
        lambda m: m["results"]["lens"].update(arrays=outside),
        lambda m: m.update(states=outside),
        lambda m: m["files"].update({outside: {"bytes": 1, "sha256": ""}}),
    ):
        manifest = (small / "manifest.json").read_text()
        edit(small, change)
        with pytest.raises(InputError, match=r"outside the bundle|no file name"):
            bundle.load(small)
        (small / "manifest.json").write_text(manifest)


def test_symbolic_links_are_refused(small, tmp_path):
    arrays = small / "arrays"
    arrays.rename(tmp_path / "elsewhere")
    arrays.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        bundle.load(small)


def test_other_folders_and_versions_are_refused(small, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        bundle.load(tmp_path / "nothing")
    with pytest.raises(InputError, match="missing"):
        bundle.load(tmp_path)
    edit(small, lambda m: m.update(schema_version=99))
    with pytest.raises(InputError, match=r"schema version 99.*reads 2.*update abbie-lens"):
        bundle.load(small)
    edit(small, lambda m: m.update(schema_version=1))
    with pytest.raises(InputError, match=r"schema version 1; .*reads 2.*write it again"):
        bundle.load(small)
    edit(small, lambda m: m.update(format="something else"))
    with pytest.raises(InputError, match="not an abbie-lens bundle"):
        bundle.load(small)
    (small / "manifest.json").write_text('{"format": "abbie-l')
    with pytest.raises(InputError, match="damaged"):
        bundle.load(small)


def test_unknown_result_classes_and_missing_arrays_are_named(small):
    manifest = (small / "manifest.json").read_text()
    edit(small, lambda m: m["results"]["lens"]["meta"].update({"class": "Evil"}))
    with pytest.raises(InputError, match=r"'lens'.*Evil"):
        bundle.load(small)
    (small / "manifest.json").write_text(manifest)
    edit(small, lambda m: m["results"]["lens"]["meta"]["fields"]["nll"].update(key="gone"))
    with pytest.raises(InputError, match=r"'lens'.*gone"):
        bundle.load(small)
    (small / "manifest.json").write_text(manifest)
    edit(small, lambda m: m["results"].update(lens=3))
    with pytest.raises(InputError, match="does not describe 'lens'"):
        bundle.load(small)


def test_names_become_safe_and_distinct_files(results, tmp_path):
    names = ["../up", "up", "Up", "a/b", "a b", "", "con", "ü", "x" * 300]
    stems = places.file_stems(names)
    assert len({s.lower() for s in stems.values()}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", s) for s in stems.values())
    assert stems["con"] != "con"
    saved = bundle.save(dict.fromkeys(names, results["sweep"]), tmp_path / "odd")
    assert list(bundle.load(saved).results) == names
    assert {p.name for p in tmp_path.iterdir()} == {"odd"}


def test_bad_arguments_are_named(results, tmp_path):
    with pytest.raises(InputError, match="at least one"):
        bundle.save({}, tmp_path / "x")
    with pytest.raises(InputError, match="'lens'"):
        bundle.save({"lens": 3}, tmp_path / "x")
    for settings in ({"a": object()}, {"a": float("nan")}):
        with pytest.raises(InputError, match="settings"):
            bundle.save({"s": results["sweep"]}, tmp_path / "x", settings=settings)
    assert not list(tmp_path.iterdir())
