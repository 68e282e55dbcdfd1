"""The steps of a registration; `registration` runs them in order."""
