"""Settings of a loop and of a recipe take plain JSON types, and name the field where they get another."""

import json
import re

import pytest

from abbie_lens import LoopedConfig, loops
from abbie_lens.errors import ConfigError
from abbie_lens.training.depths import DEPTHS
from abbie_lens.training.recipe import Recipe


@pytest.mark.parametrize("name", loops.FAMILIES)
def test_every_family_is_the_same_after_json(name):
    loop = loops.family(name)()
    assert loops.decode(json.loads(json.dumps(loops.encode(loop)))) == loop
    assert hash(loop) is not None


@pytest.mark.parametrize(
    ("family", "setting", "value", "says"),
    [
        ("spiral", "schedule", "4,2,1", "a list, each an integer"),
        ("spiral", "schedule", [4, 2.0, 1], "a list, each an integer"),
        ("spiral", "schedule", [4, True], "a list, each an integer"),
        ("spiral", "schedule", None, "a list, each an integer"),
        ("spiral", "schedule", 4, "a list, each an integer"),
        ("spiral", "schedule", [[4], 2], "a list, each an integer"),
        ("spiral", "n_slots", 2.5, "an integer"),
        ("spiral", "no_overlap", 1, "true or false"),
        ("adaponder", "gate_ramp", [0.1, 0.2, 0.3], "a list of 2: a number, a number"),
        ("adaponder", "gate_ramp", 0.5, "a list of 2: a number, a number"),
        ("adaponder", "threshold", float("nan"), "a number"),
        ("adaponder", "threshold", "1e-4", "a number"),
        ("adaponder", "max_iters", None, "an integer"),
        ("ponder", "top_k", "all", "an integer or null"),
        ("ponder", "top_k", True, "an integer or null"),
        ("0pt", "init_scale", None, "a number"),
        ("0pt", "norm", 1, "a text"),
        ("abbie-d", "residual", ["between"], "a text"),
    ],
)
def test_another_type_is_a_clear_error(family, setting, value, says):
    with pytest.raises(ConfigError, match=re.escape(f"loop {family}: {setting}=")) as caught:
        loops.decode({"family": family, setting: value})
    assert str(caught.value).endswith(f"expected {says}.")


@pytest.mark.parametrize(
    ("family", "settings", "says"),
    [
        ("spiral", {"schedule": [128, 1]}, "chunk sizes of 1 to n_ctx=64 tokens"),
        ("spiral", {"schedule": [0, 1]}, "chunk sizes of 1 to n_ctx=64 tokens"),
        ("spiral", {"schedule": []}, "at least one chunk size"),
        ("spiral", {"schedule": [1], "beyond": "refuse"}, "at least n_iters=2 entries"),
        ("spiral", {"n_slots": 0}, "an integer >= 1"),
        ("spiral", {"merge": "sum"}, "one of ('anchor', 'mesh')"),
        ("spiral", {"pooling": "max"}, "one of ('self', 'mean')"),
        ("spiral", {"beyond": "stop"}, "one of ('repeat_last', 'refuse')"),
        ("adaponder", {"max_iters": 1}, "at least n_iters=2"),
        ("adaponder", {"threshold": 2}, "0 to 1"),
        ("adaponder", {"gate_ramp": [0.6, 0.2]}, "two rising shares"),
        ("adaponder", {"gate_share": -0.1}, "0 to 1"),
        ("ponder", {"top_k": 101}, "1 to d_vocab=100"),
        ("ponder", {"top_k": 0}, "1 to d_vocab=100"),
        ("0pt", {"norm": "post"}, "one of ('carried', 'readout', 'none')"),
        ("0pt", {"init_scale": -1}, "a number >= 0"),
        ("lt", {"threshold": 0.5}, "unknown setting 'threshold'"),
        ("flt", {"max_iters": 4}, "unknown setting 'max_iters'"),
        ("spiral", {"gate_share": 0.1}, "unknown setting 'gate_share'"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_model(tiny_config, family, settings, says):
    plain = tiny_config().to_dict()
    bare = family in ("lt", "flt", "ponder", "adaponder")
    plain |= {"n_head_blocks": 0, "n_tail_blocks": 0} if bare else {}
    with pytest.raises(ConfigError, match=re.escape(says)):
        LoopedConfig.from_dict({**plain, "loop": {"family": family, **settings}})


@pytest.mark.parametrize(
    "family", ["lt", "lt-i", "lt-ia", "flt", "flt-res", "ponder", "adaponder", "ponder-2"]
)
@pytest.mark.parametrize("stage", ["n_head_blocks", "n_tail_blocks"])
def test_a_loop_over_the_whole_stack_refuses_a_head_or_a_tail(tiny_config, family, stage):
    bare = {"n_head_blocks": 0, "n_tail_blocks": 0}
    with pytest.raises(ConfigError, match=f"{stage}=1: expected 0: {family} loops the whole stack"):
        tiny_config(loops.family(family)(), **(bare | {stage: 1}))


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("backprop_depth", "8", "an integer or null"),
        ("backprop_depth", 0, "an integer >= 1, or null"),
        ("jacobian_weight", None, "a number"),
        ("jacobian_weight", 1.5, "0 to 1"),
        ("loss", ["end"], "a text"),
        ("loss", "all", "('end', 'step', 'few', 'random', 'exit')"),
        ("depth", "even", str(DEPTHS)),
        ("depth_spread", 0, "an integer >= 1"),
        ("n_supervised", 2.5, "an integer"),
        ("curriculum", "step", "('linear', '1-sqrt')"),
        ("curriculum_share", -0.1, "0 to 1"),
    ],
)
def test_a_recipe_of_another_type_or_range(setting, value, says):
    with pytest.raises(ConfigError, match=re.escape(f"recipe.{setting}=")) as caught:
        Recipe.from_dict({setting: value})
    assert str(caught.value).endswith(f"expected {says}.")
