"""Several document sets side by side."""

import pytest

from abbie_lens.errors import InputError
from probes.aggregation import ANALYSES, AggregateConfig, DocumentSets, aggregate
from probes.result import Result
from tests.corpus import text


@pytest.fixture(scope="module")
def results(tiny_model, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    found = {}
    for name, n_iters in (("prose", 3), ("<b>code</b>", 3), ("deep", 4)):
        path = folder / f"{len(found)}.txt"
        path.write_text("\f".join(text(len(found) + s, 20) for s in range(2)))
        config = AggregateConfig(
            str(path), str(folder / f"out-{len(found)}"), n_iters, variants=("trained", "random")
        )
        found[name] = aggregate(model, config, ANALYSES["distances"])
    return found


def test_tables_and_lines_of_all_sets(results):
    two = {name: results[name] for name in ("prose", "<b>code</b>")}
    sets = DocumentSets.of(two)
    frame = sets.to_frame()
    for name, one in two.items():
        assert (
            frame[frame["set"] == name]
            .drop(columns="set")
            .reset_index(drop=True)
            .equals(one.to_frame())
        )
    fig = sets.figure(metrics=("raw",), variant="random", theme="dark")
    lines = [t for t in fig.data if t.mode == "lines+markers"]
    assert [line.name for line in lines] == ["prose", "&lt;b&gt;code&lt;/b&gt;"]
    for line, one in zip(lines, two.values(), strict=True):
        assert list(line.y) == list(one.mean["raw"][1, 0])
    again = Result.from_arrays(*sets.to_arrays())
    assert again.to_frame().equals(frame)


def test_what_cannot_stand_side_by_side(results):
    with pytest.raises(InputError, match=r"sets\['deep'\]: n_iters 4"):
        DocumentSets.of(results)
    with pytest.raises(InputError, match="at least one"):
        DocumentSets.of({})
    with pytest.raises(InputError, match="variant='shuffled'"):
        DocumentSets.of({"prose": results["prose"]}).figure(variant="shuffled")
