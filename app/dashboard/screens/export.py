"""Export: take this run along as a bundle, or look at one that was saved earlier."""

from functools import partial

import streamlit as st

from app.view import bundles, notices, page

page.header(
    "How do I keep, share or reopen this run?",
    "A bundle holds tables (Parquet), states (safetensors), settings and a report for any browser; it "
    "opens without the model.",
)
source = page.source()
keep, reopen = st.columns(2, gap="large")
with keep, st.container(border=True):
    st.markdown("**Save this run**")
    name, contents = bundles.contents(source)
    st.dataframe(contents, hide_index=True)
    st.download_button(
        "Download the bundle (.zip)", partial(bundles.build, source, name),
        file_name=f"{name}.zip", mime="application/zip", key="export", on_click="ignore",
        type="primary", icon=":material/download:",
    )  # fmt: skip
    command = bundles.command(source)
    more = " (`--full` computes every costly result, those not asked for here too)"
    st.caption(f"The same from a terminal{more if '--full' in command.split() else ''}:")
    st.code(command, language=None, wrap_lines=True)
with reopen, st.container(border=True):
    st.markdown("**Open a saved run**")
    upload = st.file_uploader("A bundle as .zip", type="zip", key="upload")
    if upload is not None and st.button("Open this bundle", key="open_bundle", type="primary"):
        with notices.calm("This bundle cannot be opened"):
            bundles.open_zip(upload.name, upload.getvalue())
            st.rerun()
    st.caption(
        "A bundle in a folder on this machine opens with `abbie-lens app --bundle DIR`. While a "
        "bundle is open, every page shows its saved results."
    )
st.caption(
    ":material/link: The address of this page holds model, prompt, r and loop: copy it to share this view."
)
