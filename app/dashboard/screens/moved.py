"""Where old links to pages that became part of Dynamics lead; model, prompt and r stay."""

import streamlit as st

st.switch_page("screens/dynamics.py")
