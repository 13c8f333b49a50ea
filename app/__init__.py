"""What people touch: the command line (`abbie-lens`) and the Streamlit dashboard."""
