"""The page over all pairs of a cohort: `details` and `slices` say what it shows, the files beside how it looks."""

from .pictures import write_pair_pictures
from .rows import read_ratings
from .writing import write_page

__all__ = ["read_ratings", "write_page", "write_pair_pictures"]
