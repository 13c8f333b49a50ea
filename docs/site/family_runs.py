"""One figure a loop family, from a real run: of a bundled model where there is one, else of fresh weights."""

from __future__ import annotations

import json
from typing import Any

import probes
from abbie_lens import HookedLoopedTransformer, LoopedConfig, load, zoo
from abbie_lens.loops import FAMILIES
from docs.site.figures import plain
from probes.figures import style

N_ITERS = 8
TEXT = "It was a bright cold day in April, and the clocks were striking."
SIZES = dict(d_model=32, n_heads=4, d_head=8, d_mlp=64, n_ctx=96, d_vocab=100, seed=0)
TOKENS = [list(range(1, 17))]


def family_figures() -> list[dict[str, Any]]:
    """`{"call": family, "light", "dark"}` for each family: distances between iterations."""
    bundled = _bundled()
    found = []
    for name in FAMILIES:
        model, text = (load(bundled[name]), TEXT) if name in bundled else (fresh(name), TOKENS)
        limit = model.cfg.loop.max_depth
        r = N_ITERS if limit is None else min(N_ITERS, limit)
        result = probes.fixed_point(model, text, r, control=name in bundled)
        draw = _drawn if name in bundled else _drawn_as_control
        themes = {theme: draw(result, theme) for theme in ("light", "dark")}
        found.append({"call": name, "model": bundled.get(name)} | themes)
    return found


def _drawn(result: probes.FixedPoint, theme: Any) -> dict[str, Any]:
    return plain(result.figure(theme=theme))


def _drawn_as_control(result: probes.FixedPoint, theme: Any) -> dict[str, Any]:
    """In name and looks what it is, since a result takes the weights that it is given for the trained ones."""
    look = style.role("control", theme)
    figure = result.figure(theme=theme)
    trained = {"legendgroup": "trained", "mode": "lines+markers"}
    figure.update_traces(
        {"line.color": look["color"], "line.dash": look["dash"], "marker.symbol": look["symbol"]},
        selector=trained,
    )
    for band in figure.select_traces(lambda trace: trace.fill):
        band.fillcolor = style.rgba(look["color"], 0.15)
    text = json.dumps(plain(figure), ensure_ascii=False)
    text = text.replace(style.ROLES["trained"], style.ROLES["control"])
    return json.loads(text.replace("trained: ", "random: "))


def fresh(name: str) -> HookedLoopedTransformer:
    """A small model of the family with weights that are not trained."""
    loop = FAMILIES[name]()
    shape = SIZES | dict(n_head_blocks=1, n_body_blocks=2, n_tail_blocks=1) | loop.shape(32)
    return HookedLoopedTransformer(
        LoopedConfig(loop=loop, model_name=f"{name}, small", **shape)
    ).eval()


def _bundled() -> dict[str, str]:
    """A bundled model that reads text for each family that has one."""
    names = [name for name in zoo.names() if not name.endswith("khop")]
    return {load(name).cfg.loop.family: name for name in sorted(names, reverse=True)}
