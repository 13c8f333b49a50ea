"""Foreign weights through a key map: patterns, functions, what is missing or unused, rotary order."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from abbie_lens import load
from abbie_lens.errors import CheckpointError, ConfigError, InputError
from abbie_lens.files.keymap import apply_key_map
from abbie_lens.files.weights import state_tensors

PARTS = {"head": "prelude", "body": "core", "tail": "coda"}
PROJECTIONS = {"q_proj": "wq", "k_proj": "wk", "v_proj": "wv", "o_proj": "wo"}
MAP = {
    "tok.weight": "embed.weight",
    "norm.weight": "ln_final.weight",
    **{
        f"layers.{theirs}.{{b}}.attn.{w}.weight": f"{ours}.{{b}}.attn.{p}.weight"
        for ours, theirs in PARTS.items()
        for p, w in PROJECTIONS.items()
    },
    re.compile(r"layers\.(prelude|core|coda)\.(\d+)\.rope\.inv_freq"): None,
    re.compile(r"layers\.prelude\.(\d+)\.(?P<rest>(ln|mlp).*)"): r"head.\1.\g<rest>",
    re.compile(r"layers\.core\.(\d+)\.((?:ln|mlp).*)"): r"body.\1.\2",
    re.compile(r"layers\.coda\.(\d+)\.((?:ln|mlp).*)"): r"tail.\1.\2",
}


def their_name(name: str) -> str:
    name = {"embed.weight": "tok.weight", "ln_final.weight": "norm.weight"}.get(name, name)
    for ours, theirs in PARTS.items():
        name = re.sub(rf"^{ours}\.", f"layers.{theirs}.", name)
    for ours, theirs in PROJECTIONS.items():
        name = name.replace(ours, theirs)
    return name


@pytest.fixture
def foreign(tiny_model, tmp_path) -> tuple:
    """A model, and its weights as another program would have saved them."""
    model = tiny_model(seed=5)
    tensors = {their_name(n): t.detach().clone() for n, t in state_tensors(model).items()}
    tensors["layers.core.0.rope.inv_freq"] = torch.ones(4)
    file = tmp_path / "theirs.safetensors"
    save_file(tensors, file)
    return model, file


def rewrite(file: Path, **changes) -> None:
    from safetensors.torch import load_file

    tensors = {**load_file(file), **{k.replace("__", "."): v for k, v in changes.items()}}
    save_file({k: v for k, v in tensors.items() if v is not None}, file)


def test_patterns_give_the_same_model(foreign) -> None:
    model, file = foreign
    loaded = load(file, key_map=MAP, config=model.cfg)
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    assert torch.equal(loaded(tokens, n_iters=3), model(tokens, n_iters=3))
    report = loaded.load_report
    assert report.complete and (report.missing, report.unused) == ((), ())
    assert report.dropped == ("layers.core.0.rope.inv_freq",)
    assert report.renamed["layers.prelude.0.attn.wq.weight"] == ("head.0.attn.q_proj.weight",)
    assert len(report.renamed) == len(state_tensors(model))


def test_config_as_a_dict_and_a_dtype(foreign) -> None:
    model, file = foreign
    loaded = load(file, dtype="bfloat16", key_map=MAP, config=model.cfg.to_dict())
    assert loaded.dtype == torch.bfloat16 and loaded.cfg.dtype == "bfloat16"


def test_a_function_may_split_and_rename(foreign) -> None:
    model, file = foreign
    w = {p: model.body[0].attn.get_submodule(p).weight.detach() for p in PROJECTIONS}
    fused = torch.cat([w["q_proj"], w["k_proj"], w["v_proj"]])
    gone = {f"layers__core__0__attn__{x}__weight": None for x in ("wq", "wk", "wv")}
    rewrite(file, **gone, layers__core__0__attn__wqkv__weight=fused)

    def key_map(name: str, tensor: torch.Tensor):
        if name.endswith("wqkv.weight"):
            names = [f"body.0.attn.{p}.weight" for p in ("q_proj", "k_proj", "v_proj")]
            return dict(zip(names, tensor.chunk(3), strict=True))
        if name.endswith("inv_freq"):
            return None
        for ours, theirs in {**PARTS, **PROJECTIONS, "embed": "tok", "ln_final": "norm"}.items():
            name = re.sub(rf"\b{theirs}\b", ours, name)
        return name.removeprefix("layers.")

    loaded = load(file, key_map=key_map, config=model.cfg)
    tokens = torch.tensor([[3, 1, 4]])
    assert torch.equal(loaded(tokens), model(tokens))


def test_missing_and_unused_are_listed(foreign) -> None:
    model, file = foreign
    rewrite(file, norm__weight=None, layers__core__1__ln1__weight=None, extra__weight=torch.ones(2))
    with pytest.raises(CheckpointError) as caught:
        load(file, key_map=MAP, config=model.cfg)
    for name in ("ln_final.weight", "body.1.ln1.weight", "extra.weight"):
        assert name in str(caught.value)
    loaded = load(file, key_map=MAP, config=model.cfg, strict=False)
    assert set(loaded.load_report.missing) == {"ln_final.weight", "body.1.ln1.weight"}
    assert loaded.load_report.unused == ("extra.weight",)
    assert torch.equal(loaded.embed.weight, model.embed.weight)


def test_a_pattern_that_leads_nowhere_is_unused(foreign) -> None:
    model, file = foreign
    with pytest.raises(CheckpointError, match=r"norm\.weight -> final\.weight"):
        load(file, key_map=MAP | {"norm.weight": "final.weight"}, config=model.cfg)


def test_two_names_for_one_place(foreign) -> None:
    model, file = foreign
    rewrite(file, other__weight=torch.ones(32))
    with pytest.raises(
        CheckpointError, match=r"norm\.weight.*other\.weight|other\.weight.*norm\.weight"
    ):
        load(file, key_map={"other.weight": "ln_final.weight", **MAP}, config=model.cfg)


def test_wrong_shape_names_both(foreign) -> None:
    model, file = foreign
    rewrite(file, norm__weight=torch.ones(7))
    with pytest.raises(CheckpointError, match=r"ln_final\.weight is \[7\], the config says \[32\]"):
        load(file, key_map=MAP, config=model.cfg, strict=False)


def test_tied_head_in_the_file(foreign) -> None:
    model, file = foreign
    rewrite(file, lm_head__weight=model.embed.weight.detach().clone())
    key_map = MAP | {"lm_head.weight": "unembed.weight"}
    loaded = load(file, key_map=key_map, config=model.cfg)
    assert loaded.unembed.weight is loaded.embed.weight
    rewrite(file, lm_head__weight=torch.zeros_like(model.embed.weight))
    with pytest.raises(CheckpointError, match="tie_word_embeddings=False"):
        load(file, key_map=key_map, config=model.cfg)
    untied = load(file, key_map=key_map, config=model.cfg.replace(tie_word_embeddings=False))
    assert (untied.unembed.weight == 0).all()
    # a file that has only the output matrix of a tied pair
    rewrite(file, tok__weight=None, lm_head__weight=model.embed.weight.detach().clone())
    only = load(file, key_map=key_map, config=model.cfg)
    assert torch.equal(only.embed.weight, model.embed.weight)


def test_config_is_needed_and_checked(foreign) -> None:
    model, file = foreign
    with pytest.raises(CheckpointError, match="config="):
        load(file, key_map=MAP)
    with pytest.raises(InputError, match="config"):
        load(file, key_map=MAP, config="llama")
    with pytest.raises(ConfigError, match="d_modell"):
        load(file, key_map=MAP, config={**model.cfg.to_dict(), "d_modell": 3})


def test_damaged_foreign_file(foreign) -> None:
    model, file = foreign
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        load(file, key_map=MAP, config=model.cfg)


def test_places_match_one_piece_only() -> None:
    stored = {"a.0.w": torch.ones(1), "a.0.1.w": torch.ones(1), "axb": torch.ones(1)}
    expected = {"b.0": (1,), "literal": (1,)}
    put = lambda _name, _tensor: True  # noqa: E731
    report = apply_key_map({"a.{i}.w": "b.{i}", "a.b": "literal"}, stored, expected, {}, put)
    assert report.renamed == {"a.0.w": ("b.0",)}
    assert report.unused == ("a.0.1.w", "axb"), "a dot in a pattern is a dot"


@pytest.mark.parametrize(
    ("key_map", "says"),
    [
        ({"{i}.{i}": "x"}, "twice"),
        ({"a.{b}": "head.{c}"}, r"\{c\}"),
        ({re.compile(r"(.*)"): r"\2"}, "invalid group"),
        (lambda _name, _tensor: 3, "expected a name"),
    ],
)
def test_key_maps_that_make_no_sense(key_map, says) -> None:
    with pytest.raises(ConfigError, match=says):
        apply_key_map(key_map, {"a.0": torch.ones(1)}, {"b": (1,)}, {}, lambda _n, _t: True)
