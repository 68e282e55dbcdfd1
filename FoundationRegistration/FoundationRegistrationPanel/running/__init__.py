"""Whether a run can start, what is fetched before it, and its progress."""
