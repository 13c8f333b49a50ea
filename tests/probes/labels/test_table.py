"""Labels of a user's table, and what is wrong with it said in one line."""

import numpy as np
import pandas as pd
import pytest

from abbie_lens.errors import InputError
from probes.labels import read_table, table_label


def table(**columns):
    base = {
        "document": ["a", "a", "b"],
        "text": ["the cat", "", "a mat NA"],
        "start": [0, 4, 6],
        "end": [3, 7, 8],
        "label": ["DET", "NOUN", "NOUN"],
    }
    return pd.DataFrame({name: v for name, v in (base | columns).items() if v is not None})


def test_rows_of_one_document_belong_together():
    label = table_label(table())
    assert label.documents == ("the cat", "a mat NA") and label.classes == ("DET", "NOUN")
    assert label.of(0, [], np.array([[0, 3], [3, 7]])).tolist() == [0, 1]
    assert label.of(1, [], np.array([[0, 1], [1, 5], [5, 8]])).tolist() == [-1, -1, 1]


def test_without_documents_the_text_says_which_rows_are_one():
    label = table_label(table(document=None, text=["the cat", "the cat", "a mat NA"]))
    assert [len(spans) for spans in label.spans] == [2, 1]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_files_give_the_same(tmp_path, suffix):
    path = tmp_path / f"labels{suffix}"
    whole = table(label=["NA", "007", "NA"])
    if suffix == ".parquet":
        whole.to_parquet(path)
    else:
        whole.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    for found in (read_table(path), read_table(path.name, path.read_bytes())):
        label = table_label(found)
        assert label.classes == ("007", "NA") and label.documents == ("the cat", "a mat NA")


def test_numbers_are_numbers_where_one_is_no_whole_number_or_when_asked():
    assert table_label(table(label=["0.5", "2", "-1"])).values[0].tolist() == [0.5, 2]
    assert table_label(table(label=[1, 2, 2])).classes == ("1", "2")
    assert table_label(table(label=[1, 2, 2]), numbers=True).classes == ()
    assert table_label(table(label=[0.5, 2, 2]), numbers=False).classes == ("0.5", "2.0")


@pytest.mark.parametrize(
    "changed, asked, said",
    [
        ({}, {"column": "labl"}, "no column 'labl'; it has document, text, start, end, label. Nearest: label"),
        ({"label": ["x", "x", "x"]}, {}, "column 'label' has one class, 'x'; a probe needs two"),
        ({"label": ["x", None, "y"]}, {}, r"row 2: column 'label' is missing \(NaN\)"),
        ({"label": [0.5, np.nan, 1]}, {}, r"row 2: column 'label' is missing \(NaN\)"),
        ({"label": [0.5, np.inf, 1]}, {}, "a value that is not finite"),
        ({}, {"numbers": True}, "does not hold numbers only"),
        ({"end": [3, 8, 8]}, {}, "row 2: start=4, end=8 is not within the text's 7 characters"),
        ({"start": [-1, 4, 6]}, {}, "row 1: start=-1"),
        ({"start": [0, 4.5, 6]}, {}, "row 2: start=4.5; expected a whole number"),
        ({"start": ["x", "4", "6"]}, {}, "row 1: start='x'; expected a whole number"),
        ({"text": ["the cat", "a cat", "b"]}, {}, "row 2: document 'a' has another text"),
        ({"text": ["", "", "a mat NA"]}, {}, "row 1: column 'text' is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_row(changed, asked, said):
    with pytest.raises(InputError, match=said):
        table_label(table(**changed), **asked)


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(InputError, match=r"table='a\.txt': expected a name"):
        read_table("a.txt")
    with pytest.raises(InputError, match="can't be read"):
        read_table("a.csv", b"")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for path in ("a.parquet", "absent.csv"):
        with pytest.raises(InputError, match="can't be read"):
            read_table(tmp_path / path)
    with pytest.raises(InputError, match="it has no rows"):
        table_label(table().iloc[:0])
