"""What a probe reads from a collection is what the model gave."""

import numpy as np
import pytest
import torch

from abbie_lens.collecting import CollectConfig, collect
from abbie_lens.errors import InputError
from probes.probing.features import collected
from probes.progress import Progress


@pytest.fixture(scope="module")
def made(tiny_model, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("collected")
    (folder / "text.txt").write_text("the cat sat on the mat, and ran. " * 12, "utf-8")
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, seed=7)
    sites = ("loop.hook_state", "head.0.hook_resid_post", "body.0.attn.hook_z")
    config = CollectConfig(
        data=str(folder / "text.txt"), out=str(folder / "out"), sites=sites, n_iters=2
    )
    return collect(model, config), sites


def test_chosen_tokens_of_every_site_and_iteration(made):
    collection, sites = made
    n = len(collection.index())
    tokens = np.array([0, 3, 4, n - 1])
    found = collected(collection, sites, tokens, Progress(1))
    assert [len(found[site]) for site in sites] == [3, 1, 2]
    for site in sites:
        whole = torch.cat(list(collection.tensors(site)), 1 if collection.rows[site] else 0)
        stack = whole if collection.rows[site] else whole[None]
        for k, row in enumerate(found[site]):
            np.testing.assert_array_equal(row, stack[k, tokens].flatten(1).float().numpy())


def test_tokens_out_of_order_or_beyond_are_refused(made):
    collection, sites = made
    n = len(collection.index())
    for tokens, message in (([3, 3], "ascending"), ([-1], "ascending"), ([n], "beyond")):
        with pytest.raises(InputError, match=message):
            collected(collection, sites, np.array(tokens), Progress(1))
