"""Single nodes as the engine needs them: grids, spaces, volumes, masks, points, and what their values are."""
