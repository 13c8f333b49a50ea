"""docs/halting-study.md is what the stored studies say."""

from abbie_lens.files.plain_json import read_object
from benchmarks.halting_study import DOCS, STORED
from probes.early_exit.report import page


def test_the_page_is_made_of_the_stored_numbers():
    stored = [read_object(path) for path in sorted(STORED.glob("*.json"))]
    assert {study["model"] for study in stored} >= {
        "ouro-khop",
        "adaponder-khop",
        "adaponder-novels-5m",
    }
    assert (DOCS / "halting-study.md").read_text(encoding="utf-8") == page(stored)
