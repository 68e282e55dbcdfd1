"""Many pairs: a batch of nodes or files, the engine's `cohort` in its process, and its results as nodes."""
