"""Physical space: grids, points, transforms, resampling."""
