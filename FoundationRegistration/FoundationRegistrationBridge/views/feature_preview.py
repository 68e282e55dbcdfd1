"""Encoder features as colours: the first three components of the features as red, green and blue.

Both volumes share one colour mapping, so similar features have the same colour in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import BridgeError
from .borrowed import SLICE_VIEWS
from .compare import Comparison, show_full_range


def show_features(
    fixed_features: Any, moving_features: Any, slice_view_names: Sequence[str] = SLICE_VIEWS
) -> Comparison:
    """Show the features of both volumes in the same slice views, the fixed ones first.

    Args:
        fixed_features: colour volume of the fixed volume's features.
        moving_features: the same of the moving volume.
        slice_view_names: layout names of the slice views to use.

    Returns:
        The comparison; fade, flicker or close it.

    Raises:
        BridgeError: not colour volumes, a node that is not in the scene, or no such view.
    """
    for node in (fixed_features, moving_features):
        if node is None or not node.IsA("vtkMRMLVectorVolumeNode"):
            msg = "There are no feature colours to show; register again with the feature preview enabled."
            raise BridgeError(msg)
    for node in (fixed_features, moving_features):
        show_full_range(node)
    comparison = Comparison(fixed_features, moving_features, slice_view_names)
    comparison.fade(0.0)
    return comparison
