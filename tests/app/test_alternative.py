"""What is read aloud of a figure."""

import plotly.graph_objects as go

from app.view import alternative


def test_title_axes_and_notes_are_said_once_and_markup_is_not():
    figure = go.Figure(go.Heatmap(z=[[1]]))
    figure.update_layout(
        title={"text": "<b>Tail</b> lens", "subtitle": {"text": "m · “&lt;b&gt;a&amp;”<br>r = 3"}},
        xaxis_title="token", yaxis_title="iteration k", yaxis2={"title": "iteration k"},
    )  # fmt: skip
    figure.add_annotation(text="‖h<sub>k</sub>‖")
    figure.add_annotation(text="‖h<sub>k</sub>‖")
    said = alternative.text(figure, "Lens")
    assert said == (
        "Lens. Tail lens. m · “<b>a&” r = 3. Horizontal: token. Vertical: iteration k. ‖h k ‖"
    )


def test_a_bare_figure_has_its_name():
    assert alternative.text(go.Figure(), "Lens") == "Lens"
