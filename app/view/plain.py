"""Text from users and tokenizers as it may stand in Streamlit's labels, where Markdown is read."""

from __future__ import annotations

import re

from probes.figures import labels

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&\"'=^/@])")


def markdown(text: str) -> str:
    """`text` so that Markdown, HTML, maths, emoji codes and colour directives show as typed."""
    return _MARKDOWN.sub(r"\\\1", labels.visible(text, None).replace("·", " "))


def token(text: str, max_chars: int | None = labels.MAX_CHARS) -> str:
    """A token for a table cell: spaces, newlines and control characters visible, nothing escaped."""
    return labels.visible(text, max_chars)
