"""The report of a bundle: one HTML file with every figure, light and dark, that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

from probes.bundle.template import CSS, JAVASCRIPT, PAGE
from probes.figures import labels
from probes.result import Result

THEMES = ("light", "dark")


def page(results: Mapping[str, Result], manifest: Mapping[str, Any]) -> str:
    """The whole HTML page. Text of users and tokenizers is escaped; nothing is fetched."""
    figures: dict[str, Any] = {}
    sections = []
    for name, result in results.items():
        drawn = []
        for number, view in enumerate(_views(result)):
            key = f"figure-{len(figures)}"
            pair = {theme: result.figure(theme=theme, **view) for theme in THEMES}
            figures[key] = {theme: json.loads(fig.to_json()) for theme, fig in pair.items()}
            height = pair["light"].layout.height or 450
            drawn.append(_figure(key, height, result, manifest["results"][name], number == 0))
        sections.append(f"<section><h2>{escape(name)}</h2>{''.join(drawn)}</section>")
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
    """Views of the result that a report shows: those its class names, else its own default."""
    return getattr(type(result), "report_views", ({},))


def _figure(key: str, height: float, result: Result, entry: Mapping[str, Any], first: bool) -> str:
    prompt = labels.prompt_label(result.tokens[0], 80)
    if len(result.tokens) > 1:
        prompt += f" and {len(result.tokens) - 1} more"
    caption = (
        f"<b>{escape(result.title)}</b>: {escape(result.formula)}. Model"
        f" {escape(result.model.name)} ({escape(result.model.family)}), r = {result.n_iters}, prompt"
        f" {prompt}. Numbers: <a href='{escape(entry['table'])}'>{escape(entry['table'])}</a>."
    )
    return (
        f"<figure><div class='plot' id='{key}' style='min-height:{height:.0f}px'></div>"
        f"{f'<figcaption>{caption}</figcaption>' if first else ''}</figure>"
    )


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
    for prompt in manifest["tokens"][:5]:
        for row in prompt[:5]:
            yield "Prompt", f"<q>{escape(_readable(row))}</q>"
    for name, value in manifest["settings"].items():
        yield f"Setting: {name}", f"<code>{escape(json.dumps(value, ensure_ascii=False))}</code>"
    yield "Created", escape(manifest["created"])


def _readable(row: list[str], longest: int = 400) -> str:
    text = "".join(token for token in row if not labels.is_special(token))
    text = text if len(text) <= longest else text[:longest] + "…"
    # Newlines stay; whatever else would not show is made visible.
    return "".join(c if c in " \n" else labels.visible(c, None) for c in text)
