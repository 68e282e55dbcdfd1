"""Device, memory, progress and interruption of a run."""
