"""A study of halting over a corpus on a page: opened with a bundle of `abbie-lens halting`."""

from __future__ import annotations

import streamlit as st

from app.view import figures, plain
from app.view.source import BundleSource, Source
from probes import ExitProbeFit, HaltingStudy, RiskControl

KIND = "halting_study"
COSTS = {"flops": "FLOPs", "depth": "iterations", "milliseconds": "milliseconds"}


def held(source: Source) -> HaltingStudy | None:
    """The study of an opened bundle; None where it holds none."""
    if not isinstance(source, BundleSource):
        return None
    found = source.bundle.results.get(KIND)
    return found if isinstance(found, HaltingStudy) else None


def show(source: BundleSource, study: HaltingStudy) -> None:
    """The frontier with its operating point, the iso-FLOPs test, classes of tokens, and what was certified."""
    titles = {rule["name"]: rule["title"] for rule in study.rules[:-1]}
    left, middle, right = st.columns([2, 1, 1], vertical_alignment="bottom")
    name = left.selectbox(
        "Rule", list(titles), format_func=titles.get, key="study_rule", bind="query-params"
    )
    i = study.index(name)
    points = range(study.thresholds.shape[1])
    at = middle.selectbox(
        "Operating point", points, key="study_point", bind="query-params",
        format_func=lambda j: f"{study.metrics['depth'][i, j, 0]:.2f} iterations",
        help="The first is the rule's own threshold, the others are thresholds of target mean depths.",
    )  # fmt: skip
    timed = bool((study.milliseconds == study.milliseconds).any())
    counted = bool((study.fixed_flops == study.fixed_flops).all())
    costs = [x for x in COSTS if (x != "milliseconds" or timed) and (x != "flops" or counted)]
    x = right.segmented_control(
        "Cost", costs, default=costs[0], required=True, format_func=COSTS.get, key="study_cost"
    )
    figures.show(study, "halting-study", view="frontier", x=x, mark=(name, at))
    st.markdown(plain.markdown(study.verdict(name, at)))
    if not counted:
        st.caption(
            "FLOPs are counted for the package's own models, not for blocks of another library."
        )
    with st.expander("Which tokens go deep, and which stop when"):
        figures.show(study, "halting-study-classes", view="classes", mark=(name, at))
        figures.show(study, "halting-study-exits", view="exits", mark=(name, at))
    with st.expander("Every rule against its references, at equal cost"):
        figures.show(study, "halting-study-against", view="against")
    for kind, found in source.bundle.results.items():
        if isinstance(found, RiskControl | ExitProbeFit):
            with st.expander(
                found.title + (f": {found.rule['title']}" if isinstance(found, RiskControl) else "")
            ):
                figures.show(found, kind)
                st.markdown(plain.markdown(found.sentence()))
    with st.expander("Every operating point in numbers"):
        st.dataframe(study.to_frame(), hide_index=True, height=320)
