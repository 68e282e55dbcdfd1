"""Volumes and label maps carried by a finished registration, with warnings about what is lost."""
