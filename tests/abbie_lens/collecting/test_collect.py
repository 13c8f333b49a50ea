"""A collection holds what a run of each window would show, whatever is batched, drawn, stored or said twice."""

import errno

import numpy as np
import pytest
import torch

from abbie_lens.collecting import CollectConfig, Collection, collect, shard
from abbie_lens.errors import CheckpointError, ConfigError, ExistsError, InputError, SiteError
from abbie_lens.loops import Spiral, ZeroPt
from tests.corpus import text

SITES = ("loop.hook_state", "body.1.attn.hook_z@-1", "head.0.hook_resid_post")


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "texts.txt"
    path.write_text("\f".join(text(s, n) for s, n in enumerate((400, 30, 90, 700, 9, 260))))
    return path


@pytest.fixture
def config(corpus, tmp_path):
    def make(**changes):
        plain = dict(
            data=str(corpus), out=str(tmp_path / "states"), sites=SITES, n_iters=3, window=32,
            shard_tokens=150, dtype="float32",
        )  # fmt: skip
        return CollectConfig(**(plain | changes))

    return make


def test_every_token_is_there_with_its_states_and_its_loss(model, config, corpus):
    made = collect(model, config())
    assert made.complete and Collection.open(made.folder).manifest == made.manifest
    documents = corpus.read_text().split("\f")
    seen = 0
    for one in made.shards():
        states, table = one.tensor("loop.hook_state"), one.index
        assert states.shape == (4, len(table), 32)
        for (document, _), group in table.groupby(
            [table.document, (table.number // 31)], sort=False
        ):
            ids = group.token.tolist()
            tokens = torch.tensor([[0, *ids]])
            losses, cache = model.run_with_cache(
                tokens, n_iters=3, return_type="loss", loss_per_token=True
            )
            rows = group.index.tolist()
            torch.testing.assert_close(
                states[:, rows], cache["loop.hook_state"][:, 0, 1:], rtol=0, atol=1e-5
            )
            torch.testing.assert_close(
                one.tensor("body.1.attn.hook_z@2")[rows],
                cache["body.1.attn.hook_z@2"][0, 1:], rtol=0, atol=1e-5,
            )  # fmt: skip
            torch.testing.assert_close(
                one.tensor("head.0.hook_resid_post")[rows],
                cache["head.0.hook_resid_post"][0, 1:], rtol=0, atol=1e-5,
            )  # fmt: skip
            assert group.nll.to_numpy() == pytest.approx(losses[0].detach().numpy(), abs=1e-4)
            assert group.position.tolist() == list(range(1, len(ids) + 1))
            spans = [documents[document][s:e] for s, e in zip(group.start, group.end, strict=True)]
            assert spans == group.text.tolist()
            seen += len(ids)
    whole = sum(len(model.tokenizer.encode(d)) for d in documents)
    assert seen == whole == made.manifest["n_tokens"] and made.manifest["n_documents"] == 6
    assert made.manifest["n_shards"] == len(list(made.shards())) > 2


def same(a: Collection, b: Collection) -> None:
    assert a.index().equals(b.index())
    for name, rows in a.rows.items():
        for row in rows or [None]:
            address = name if row is None else f"{name}@{row}"
            assert torch.equal(torch.cat([*a.tensors(address)]), torch.cat([*b.tensors(address)]))


def test_shards_and_batches_change_nothing_that_is_drawn(model, config, tmp_path):
    one = collect(model, config(share=0.4))
    other = collect(
        model, config(share=0.4, shard_tokens=10**6, batch_size=3, out=str(tmp_path / "b"))
    )
    a, b = one.index(), other.index()
    assert a.drop(columns="nll").equals(b.drop(columns="nll"))
    assert np.allclose(a.nll, b.nll, atol=1e-4)
    whole = collect(model, config(out=str(tmp_path / "c"))).index()
    assert 0.3 < len(a) / len(whole) < 0.5
    merged = a.merge(whole, on=["document", "number", "token", "start", "end"])
    assert len(merged) == len(a)
    reseeded = collect(model, config(share=0.4, seed=1, out=str(tmp_path / "d"))).index()
    assert not reseeded.number.equals(a.number)


def test_a_stopped_collection_goes_on_and_is_the_same(model, config, tmp_path):
    whole = collect(model, config(out=str(tmp_path / "whole")))

    class Stop(Exception):
        pass

    def stop(now):
        if now.n_tokens > 400:
            raise Stop

    with pytest.raises(Stop):
        collect(model, config(), on_progress=stop)
    partial = Collection.open(config().folder)
    assert not partial.complete and 1 < len(list(partial.shards())) < whole.manifest["n_shards"]
    # what a kill leaves: values without their index, and a file in the making
    shard.values_path(partial.folder, 999).write_bytes(b"half")
    (partial.folder / ".shard-000003.parquet.77").write_bytes(b"half")
    kept = shard.values_path(partial.folder, 0).stat().st_mtime_ns
    with pytest.raises(ExistsError, match="resume"):
        collect(model, config())
    with pytest.raises(InputError, match="share"):
        collect(model, config(share=0.5), resume=True)
    same(collect(model, config(), resume=True), whole)
    assert shard.values_path(partial.folder, 0).stat().st_mtime_ns == kept
    assert not list(partial.folder.glob(".shard*")) and not (
        shard.values_path(partial.folder, 999).exists()
    )


def test_max_tokens_ends_the_reading(model, config, tmp_path):
    whole = collect(model, config())
    some = collect(model, config(max_tokens=200, out=str(tmp_path / "some")))
    n = some.manifest["n_tokens"]
    assert 200 <= n < 200 + 31
    assert some.index().equals(whole.index().iloc[:n])


def test_progress_tells_share_and_size(model, config):
    told = []
    made = collect(model, config(), on_progress=told.append)
    assert [now.n_tokens for now in told] == sorted({now.n_tokens for now in told})
    assert told[-1].share > 0.99 and told[-1].eta_seconds < 1  # form feeds are no document
    values = sum(shard.values_path(made.folder, s.number).stat().st_size for s in made.shards())
    assert told[-1].bytes_forecast == pytest.approx(values, rel=0.05)


def test_a_drawn_state_is_a_function_of_seed_and_position(
    tiny_model, tiny_tokenizer, config, tmp_path
):
    drawing = tiny_model(ZeroPt(), tokenizer=tiny_tokenizer, d_vocab=300)
    once = collect(drawing, config(sites=("loop.hook_state@0",)))
    again = collect(drawing, config(sites=("loop.hook_state@0",), out=str(tmp_path / "again")))
    same(once, again)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(model, config, dtype):
    made = collect(model, config(dtype=dtype, n_iters=1))
    stored = next(made.tensors("loop.hook_state@1"))
    assert stored.dtype == getattr(torch, dtype)


def test_values_too_large_for_the_stored_type_are_refused_not_stored(model, config):
    with (
        model.hooks([("loop.hook_state@2", lambda h, hook: h * 1e6)]),
        pytest.raises(InputError, match=r"float16.*loop.hook_state@2.*bfloat16"),
    ):
        collect(model, config(dtype="float16"))
    assert not list(Collection.open(config().folder).shards())


def test_a_full_disk_leaves_no_half_shard(model, config, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shard.pq, "write_table", full)
    with pytest.raises(InputError, match=r"shard 0.*No space left"):
        collect(model, config())
    monkeypatch.undo()
    assert sorted(p.name for p in config().folder.iterdir()) == ["manifest.json"]
    assert collect(model, config(), resume=True).complete


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(sites=("loop.hook_stat",)), SiteError, "loop.hook_state"),
        (dict(sites=("body.0.attn.hook_pattern",)), SiteError, "row for each head"),
        (dict(sites=("loop.hook_state@9",)), SiteError, "iteration 9"),
        (dict(window=999), InputError, "window=999"),
        (dict(data="nowhere.txt"), InputError, "nowhere.txt"),
    ],
)  # fmt: skip
def test_bad_input(model, config, changes, error, message):
    with pytest.raises(error, match=message):
        collect(model, config(**changes))


@pytest.mark.parametrize(
    "changes",
    [dict(share=0.0), dict(dtype="int8"), dict(sites=()), dict(max_tokens=0), dict(window=1)],
)
def test_bad_settings(config, changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        config(**changes)


def test_rows_that_are_no_tokens_are_refused(tiny_model, tiny_tokenizer, config):
    coarse = tiny_model(Spiral((4, 1)), tokenizer=tiny_tokenizer, d_vocab=300)
    with pytest.raises(SiteError, match=r"body.0.hook_resid_pre@0: its rows are not"):
        collect(coarse, config(sites=("body.0.hook_resid_pre",), n_iters=2))


def test_reading_names_what_was_not_collected(model, config, tmp_path):
    made = collect(model, config(sites=("loop.hook_state@1:3", "head.0.hook_resid_post")))
    one = next(made.shards())
    assert one.tensor("loop.hook_state@1:3").shape[0] == 2
    for address, message in (
        ("loop.hook_state", r"only iterations \[1, 2\]"),
        ("loop.hook_state@0", r"not \[0\]"),
        ("head.0.hook_resid_post@0", "no iterations"),
        ("loop.hook_readout", "no such site"),
    ):
        with pytest.raises(SiteError, match=message):
            one.tensor(address)
    shard.values_path(made.folder, one.number).write_bytes(b"\0" * 40)
    with pytest.raises(CheckpointError, match=r"shard-000000.safetensors"):
        one.tensor("loop.hook_state@1")
    with pytest.raises(CheckpointError, match="no collection"):
        Collection.open(tmp_path)
