"""The document is a function of the stored metrics: equal files give equal bytes, other numbers another text."""

import json
import re
import shutil
import xml.etree.ElementTree as xml

import pytest

from abbie_lens.errors import InputError
from probes.reproduction import Metrics
from probes.reproduction.document import write
from probes.reproduction.svg import Line, Panel, chart


@pytest.fixture
def document(finished, tmp_path):
    return write(Metrics(finished / "metrics"), tmp_path / "docs" / "reproduction.md")


def test_the_same_metrics_give_the_same_bytes(document, finished, tmp_path, contents):
    first = contents(document.parent)
    again = write(Metrics(finished / "metrics"), tmp_path / "again" / "reproduction.md")
    assert contents(again.parent) == first
    # From the copies beside the document alone, as a reader of the repository has them.
    write(Metrics(document.with_suffix("") / "metrics"), document)
    assert contents(document.parent) == first
    assert {"reproduction.md", "reproduction/nll.svg", "reproduction/metrics/std/nll.json"} <= set(
        first
    )


def test_another_number_is_another_document(document):
    stored = Metrics(document.with_suffix("") / "metrics")
    path, before = stored.path("abbie-d", "nll"), document.read_text()
    content = json.loads(path.read_text())
    content["values"]["nll"][0] = 1.2345
    path.write_text(json.dumps(content))
    after = write(stored, document).read_text()
    assert "1.234" not in before and "1.234" in after


def test_what_is_gone_from_the_metrics_is_gone_from_the_document(document, finished, tmp_path):
    fewer = shutil.copytree(finished / "metrics", tmp_path / "fewer")
    (fewer / "adaponder" / "pondering.json").unlink()
    for family in ("std", "abbie-d", "adaponder"):
        (fewer / family / "attention.json").unlink()
    write(Metrics(fewer), document)
    folder = document.with_suffix("")
    assert not (folder / "metrics" / "adaponder" / "pondering.json").exists()
    assert not (folder / "attention.svg").exists()
    assert "attention.svg" not in document.read_text()


def test_every_figure_named_is_there_and_is_xml(document):
    named = re.findall(r"\((reproduction/[^)]+\.svg)\)", document.read_text())
    assert len(named) == 5
    for name in named:
        root = xml.fromstring((document.parent / name).read_text())
        assert root.get("width") == "800" and "nan" not in (document.parent / name).read_text()


def test_undefined_numbers_are_dashes(document):
    text = document.read_text()
    assert not re.search(r"\bnan\b|\bNone\b", text)
    row = next(
        line for line in text.splitlines() if line.startswith("| adaponder |") and "<br>" in line
    )
    assert row.count("—") == 1  # r = 4 of 1, 2, 4


def test_no_metrics_no_document(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        write(Metrics(tmp_path), tmp_path / "reproduction.md")
    assert not (tmp_path / "reproduction.md").exists()


def test_a_line_stands_where_its_numbers_say():
    line = Line("a", [1, 10, 100], [0.0, 5.0, 10.0], "#000000")
    gap = Line("b", [1, 10, 100], [0.0, float("nan"), 10.0], "#000000")
    text = chart([Panel("t <&>", [line, gap], "x", "y", log_x=True)], "title")
    drawn = [
        e.get("points") for e in xml.fromstring(text).iter("{http://www.w3.org/2000/svg}polyline")
    ]
    points = [tuple(map(float, p.split(","))) for p in drawn[0].split()]
    assert points[1][0] == pytest.approx((points[0][0] + points[2][0]) / 2, abs=0.1)
    assert points[1][1] == pytest.approx((points[0][1] + points[2][1]) / 2, abs=0.1)
    assert points[0][1] > points[2][1]  # up is more
    # One line for `a` and two in the legend: `b` has no two neighbours to join.
    assert len(drawn) == 3
