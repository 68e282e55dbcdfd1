"""What is shown in the slice views, which are given back afterwards: comparison, overlays, displacement."""
