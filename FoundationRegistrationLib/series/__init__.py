"""Dynamic series: every frame is registered to one of them, or to their mean."""
