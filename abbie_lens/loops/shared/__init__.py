"""What several families are made of: gates, drawn states, resolutions, routers."""
