"""How good a registration is: overlap, landmarks, volume change, folds, and the report page."""
