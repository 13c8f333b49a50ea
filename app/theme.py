"""Look of the dashboard around the figures: the figures' own paper and ink, as Streamlit options."""

from __future__ import annotations

_SANS = "Inter, system-ui, -apple-system, Segoe UI, Helvetica Neue, Arial, sans-serif"
_MONO = "SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, Liberation Mono, monospace"

_SHARED = {
    "font": _SANS,
    "codeFont": _MONO,
    "baseFontSize": 15,
    "headingFontSizes": '["2rem", "1.6rem", "1.35rem"]',
    "headingFontWeights": "[600, 600, 600]",
    "baseRadius": "0.35rem",
    "showSidebarBorder": True,
    "paddingTop": "0rem",
    "paddingBottom": "2rem",
    "metricValueFontSize": "1.4rem",
}
_LIGHT = {
    "primaryColor": "#0072B2",
    "backgroundColor": "#ffffff",
    "secondaryBackgroundColor": "#f4f5f7",
    "textColor": "#1f2430",
    "codeTextColor": "#1f2430",
    "borderColor": "#dfe2e8",
}
_DARK = {
    "primaryColor": "#2b88c4",
    "backgroundColor": "#0e1117",
    "secondaryBackgroundColor": "#181d27",
    "textColor": "#e6e9ef",
    "codeTextColor": "#e6e9ef",
    "borderColor": "#2b3240",
}


def options() -> dict[str, object]:
    """Streamlit's `theme.*` options, light and dark."""
    found: dict[str, object] = {f"theme.{name}": value for name, value in _SHARED.items()}
    found["theme.sidebar.paddingTop"] = "1rem"
    for mode, colors in (("light", _LIGHT), ("dark", _DARK)):
        found |= {f"theme.{mode}.{name}": value for name, value in colors.items()}
    return found
