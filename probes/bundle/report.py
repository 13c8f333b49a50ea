"""The report of a bundle: one HTML file with every figure, light and dark, that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from probes import readings
from probes.bundle.template import CSS, JAVASCRIPT, PAGE
from probes.figures import labels
from probes.fixed_point_result import FixedPoint
from probes.readings.base import number
from probes.result import Result

THEMES = ("light", "dark")


def page(results: Mapping[str, Result], manifest: Mapping[str, Any]) -> str:
    """The whole HTML page. Text of users and tokenizers is escaped; nothing is fetched."""
    from plotly.offline import get_plotlyjs

    figures: dict[str, Any] = {}
    sections = []
    for name, result in results.items():
        drawn = []
        for view in _views(result):
            key = f"figure-{len(figures)}"
            pair = {theme: result.figure(theme=theme, **view) for theme in THEMES}
            figures[key] = {theme: json.loads(str(fig.to_json())) for theme, fig in pair.items()}
            height = pair["light"].layout.height or 450
            drawn.append(_figure(key, height))
        caption = _caption(manifest["results"][name])
        said = _said(result)
        sections.append(
            f"<section><h2>{escape(name)}</h2>{said}{''.join(drawn)}{caption}</section>"
        )
    return PAGE.format(
        title=escape(f"abbie-lens: {_model_names(manifest)}"),
        css=CSS,
        heading=escape(_model_names(manifest)),
        facts="".join(f"<dt>{escape(k)}</dt><dd>{v}</dd>" for k, v in _facts(manifest)),
        sections="".join(sections),
        versions=escape(", ".join(f"{k} {v}" for k, v in manifest["versions"].items())),
        figures=in_script(figures),
        plotly=get_plotlyjs(),
        javascript=JAVASCRIPT,
    )


def in_script(value: Any) -> str:
    """JSON that may stand in a <script>: no text in it can end the element or begin a comment."""
    text = json.dumps(value, allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _views(result: Result) -> tuple[dict[str, Any], ...]:
    """Views of the result that a report shows: those it names, else its own default."""
    return getattr(result, "report_views", ({},))


def _said(result: Result) -> str:
    """What the result's numbers mean: a row for each, trained, random, sentence."""
    head = ""
    if isinstance(result, FixedPoint):
        answer, because = readings.headline(result)
        head = f"<p><strong>{escape(answer)}.</strong> {escape(because)}</p>"
    beside = getattr(result, "control", None) is not None
    rows = [
        f"<tr><th>{escape(one.name)}</th><td>{number(one.value)}</td>"
        + (f"<td>{number(one.control)}</td>" if beside else "")
        + f"<td>{escape(one.says)}</td></tr>"
        for one in readings.of(result)
    ]
    if not rows:
        return head
    random = "<th>random</th>" if beside else ""
    columns = f"<tr><th></th><th>trained</th>{random}<th></th></tr>"
    return f"{head}<table>{columns}{''.join(rows)}</table>"


def _figure(key: str, height: float) -> str:
    return f"<div class='plot' id='{key}' style='min-height:{height:.0f}px'></div>"


def _caption(entry: Mapping[str, Any]) -> str:
    # Formula, unit, model, r and prompt stand in the figure itself.
    table = escape(entry["table"])
    return f"<p class='numbers'>The numbers: <a href='{table}'>{table}</a></p>"


def _model_names(manifest: Mapping[str, Any]) -> str:
    return ", ".join(model["name"] or "unnamed model" for model in manifest["models"])


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for model in manifest["models"]:
        yield (
            "Model",
            escape(
                f"{model['name']} · {model['family']} · {model['n_params']:,} parameters · trained with"
                f" r = {model['trained_n_iters']} · {model['dtype']} · weights {model['weight_hash']}"
            ),
        )
    for prompt in manifest["tokens"]:
        if not prompt:
            continue  # a result over a corpus
        if len(prompt) == 1:
            yield "Prompt", f"<q>{escape(_readable(prompt[0], 600))}</q>"
        else:
            first = escape(_readable(prompt[0], 100))
            yield "Prompt", f"{len(prompt)} sequences, the first <q>{first}</q>"
    for name, value in manifest["settings"].items():
        yield f"Setting: {name}", f"<code>{escape(json.dumps(value, ensure_ascii=False))}</code>"
    yield "Created", escape(manifest["created"])


def _readable(row: list[str], longest: int) -> str:
    text = labels.joined(token for token in row if not labels.is_special(token))
    text = text if len(text) <= longest else text[:longest] + "…"
    # Newlines stay; whatever else would not show is made visible.
    return "".join(c if c in " \n" else labels.visible(c, None) for c in text)
