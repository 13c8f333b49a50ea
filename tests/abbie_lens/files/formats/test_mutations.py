"""The comparison with the references can fail: every mistake that gives plausible logits is one that it sees."""

import dataclasses

import pytest

from abbie_lens import HookedLoopedTransformer, load
from abbie_lens.files.formats import FORMATS
from abbie_lens.files.formats.entries import HeadRows, Rows
from tests.abbie_lens.files.formats.checkpoints import CONFIGS, DEPTH, write
from tests.abbie_lens.files.formats.test_config_space import compare
from tests.abbie_lens.originals import variant

every_format = pytest.mark.parametrize("name", CONFIGS)
GATED = ("mlp.gate_proj.", "mlp.in_proj.")
KEYS_VALUES = ("attn.k_proj.w", "attn.v_proj.w")
QUERIES_KEYS = ("attn.q_proj.", "attn.k_proj.")
ROWS = {
    "huginn": [GATED, KEYS_VALUES, QUERIES_KEYS],
    "retrofit_llama": [GATED, KEYS_VALUES],
    "retrofit_olmo": [GATED, KEYS_VALUES],
    "ouro": [GATED, KEYS_VALUES],
    "hrm_text": [GATED, KEYS_VALUES, QUERIES_KEYS, ("attn.gate_proj.", "attn.q_proj.")],
    "parcae": [KEYS_VALUES, QUERIES_KEYS],
    "pondering_pythia": [KEYS_VALUES, QUERIES_KEYS],
    "loopus": [GATED, KEYS_VALUES],
}
"""Names in each other's place."""
PLACES = {
    "huginn": "sandwich_branch",
    "retrofit_llama": "post_branch",
    "retrofit_olmo": "pre",
    "ouro": "sandwich_stream",
    "hrm_text": "sandwich_branch",
    "parcae": "post_branch",
    "loopus": "post_branch",
}
"""Where else the norms of a block might stand."""


def differs(model, name, c, w):
    """The comparison fails, at a site or in the logits."""
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        compare(model, name, c, w, c[DEPTH.get(name, "mean_recurrence")])


def mistaken(monkeypatch, name, change):
    """The format with `change(entry)` in the place of each entry."""
    kind = next(type(each) for each in FORMATS if each.name == name)
    right = kind.entries
    wrong = lambda self, cfg, stored: {  # noqa: E731
        key: change(entry, cfg) for key, entry in right(self, cfg, stored).items()
    }
    monkeypatch.setattr(kind, "entries", wrong)


@every_format
def test_the_other_form_of_rotation(tmp_path, name):
    c, w = write(name, tmp_path)
    model = load(tmp_path, device="cpu")
    adjacent = not model.cfg.rotary_adjacent_pairs
    differs(variant(model, rotary_adjacent_pairs=adjacent), name, c, w)


@pytest.mark.parametrize(
    ("name", "pair"), [(name, pair) for name, pairs in ROWS.items() for pair in pairs]
)
def test_another_order_of_rows(tmp_path, monkeypatch, name, pair):
    def swapped(entry, cfg):
        first, second = pair
        other = lambda n: n.replace(first, "?").replace(second, first).replace("?", second)  # noqa: E731
        return dataclasses.replace(entry, names=tuple(map(other, entry.names)))

    # As many keys as queries, so that no shape gives the mistake away.
    heads = {"base_num_key_value_heads": 4} if name == "loopus" else {"num_key_value_heads": 4}
    c, w = write(name, tmp_path, **({} if name == "pondering_pythia" else heads))
    mistaken(monkeypatch, name, swapped)
    differs(load(tmp_path, device="cpu"), name, c, w)


@pytest.mark.parametrize("name", ["huginn", "retrofit_llama", "retrofit_olmo", "hrm_text"])
def test_rows_head_by_head_where_they_are_not(tmp_path, monkeypatch, name):
    def interleaved(entry, cfg):
        fused = type(entry) is Rows and len(entry.names) > 2
        return HeadRows(entry.names, n_heads=cfg.n_heads) if fused else entry

    c, w = write(name, tmp_path, num_key_value_heads=4)
    mistaken(monkeypatch, name, interleaved)
    differs(load(tmp_path, device="cpu"), name, c, w)


def test_rows_that_are_head_by_head_taken_for_blocks(tmp_path, monkeypatch):
    c, w = write("pondering_pythia", tmp_path)
    plain = lambda entry, cfg: Rows(entry.names) if isinstance(entry, HeadRows) else entry  # noqa: E731
    mistaken(monkeypatch, "pondering_pythia", plain)
    differs(load(tmp_path, device="cpu"), "pondering_pythia", c, w)


@pytest.mark.parametrize("name", PLACES)
def test_norms_in_another_place(tmp_path, name):
    c, w = write(name, tmp_path)
    model = load(tmp_path, device="cpu")
    wrong = HookedLoopedTransformer(model.cfg.replace(norm_placement=PLACES[name])).eval()
    state = model.state_dict()
    for here in [key for key in state if key not in wrong.state_dict()]:
        moved = here.replace("_post.", ".") if "_post." in here else here.replace(".weight", "_post.weight")  # fmt: skip
        state[moved] = state.pop(here)
    wrong.load_state_dict(state)
    differs(wrong, name, c, w)


def test_pythias_branches_one_after_the_other(tmp_path):
    c, w = write("pondering_pythia", tmp_path)
    differs(
        variant(load(tmp_path, device="cpu"), parallel_attn_mlp=False), "pondering_pythia", c, w
    )


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "hrm_text"])
def test_norms_in_each_others_place(tmp_path, monkeypatch, name):
    first, second = ("ln1_post.", "ln2_post.") if name == "retrofit_olmo" else ("ln1.", "ln2.")

    def swapped(entry, cfg):
        other = lambda n: n.replace(first, "?").replace(second, first).replace("?", second)  # noqa: E731
        return dataclasses.replace(entry, names=tuple(map(other, entry.names)))

    c, w = write(name, tmp_path)
    mistaken(monkeypatch, name, swapped)
    differs(load(tmp_path, device="cpu"), name, c, w)


@every_format
def test_another_epsilon(tmp_path, name):
    """The references see it where the originals' fixtures cannot."""
    field = {"pondering_pythia": "layer_norm_eps", "loopus": "base_rms_norm_eps"}.get(
        name, "rms_norm_eps" if name in ("ouro", "hrm_text") else "norm_eps"
    )
    c, w = write(name, tmp_path, **{field: 0.05})
    model = load(tmp_path, device="cpu")
    compare(model, name, c, w, 2)
    differs(variant(model, eps=0.04), name, c, w)
