"""Processes beside Slicer: the engine and pip, their progress and end, and what they need."""
