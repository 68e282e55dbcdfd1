"""Deformable stages of a pair: the working grid, the region in which a volume is deformed, features, ConvexAdam."""
