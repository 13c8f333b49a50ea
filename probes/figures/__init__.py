"""Plotly figures of results, one file per analysis; they draw and compute no statistic."""
