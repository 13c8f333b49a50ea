"""Where old links to pages that became part of Dynamics lead."""

import streamlit as st

st.switch_page("screens/dynamics.py", query_params=st.query_params.to_dict())
