"""Parts the dashboard's pages are put together from."""
