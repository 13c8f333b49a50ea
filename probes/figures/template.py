"""The Plotly templates "abbie" and "abbie_dark", registered on import."""

from __future__ import annotations

import plotly.graph_objects as go
import plotly.io as pio

from probes.figures.colors import PALETTES, SEQUENTIAL, Palette, diverging

SANS = "Inter, system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
MONO = "'SFMono-Regular', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
_MARGIN = {"l": 64, "r": 24, "t": 84, "b": 56}


def _template(colors: Palette) -> go.layout.Template:
    axis = {
        "showline": True,
        "linecolor": colors.line,
        "gridcolor": colors.grid,
        "zerolinecolor": colors.line,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": colors.line,
        "tickfont": {"color": colors.muted, "size": 12},
        "title": {"font": {"color": colors.ink, "size": 13}, "standoff": 8},
        "automargin": False,
    }
    theme = "light" if colors.template == "abbie" else "dark"
    layout = go.Layout(
        font={"family": SANS, "size": 13, "color": colors.ink},
        paper_bgcolor=colors.paper,
        plot_bgcolor=colors.paper,
        colorway=list(colors.categories),
        colorscale={"sequential": SEQUENTIAL, "diverging": diverging(theme)},
        margin=_MARGIN,
        title={
            "font": {"size": 17},
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 16},
            "subtitle": {"font": {"size": 12, "color": colors.muted}},
        },
        xaxis=axis,
        yaxis=axis,
        annotationdefaults={"font": {"color": colors.muted}},
        hoverlabel={
            "bgcolor": colors.paper,
            "bordercolor": colors.line,
            "font": {"family": MONO, "size": 12, "color": colors.ink},
            "align": "left",
        },
        # Beside the title: panels and subtitles need the room above the axes.
        legend={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "yref": "container",
            "y": 1,
            "yanchor": "top",
        },
        hovermode="closest",
    )
    bar = {
        "thickness": 12,
        "outlinewidth": 0,
        "ticks": "outside",
        "ticklen": 3,
        "tickcolor": colors.line,
        "tickfont": {"color": colors.muted, "size": 11},
    }
    heatmap = go.Heatmap(colorscale=SEQUENTIAL, colorbar=bar, hoverongaps=False)
    scatter = go.Scatter(marker={"colorbar": bar})
    return go.layout.Template(layout=layout, data={"heatmap": [heatmap], "scatter": [scatter]})


for _palette in PALETTES.values():
    pio.templates[_palette.template] = _template(_palette)
