"""Evaluation of a registration: overlap, landmarks, volume change, folds, and the report page."""
