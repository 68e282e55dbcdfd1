"""Features of both volumes on the instance optimisation grid (paper section 2.1).

`slices.py` selects what is encoded, `encoding.py` runs the encoder, `spool.py` holds its tokens, `reduction.py` fits
the joint PCA, `grid.py` interpolates and pools, `windows.py` applies 3D networks, `cache.py` caches the result,
`preview.py` shows it; `extraction.py` combines these steps.
"""

from __future__ import annotations

from .cache import FeatureCache
from .extraction import FeaturePair, extract_features
from .grid import pool, tokens_to_grid
from .preview import feature_preview
from .reduction import FEATURE_VARIANCE, reduce_jointly
from .slices import encoded_slice_indices
from .source import EncoderSource
from .spool import TOKEN_BUDGET_BYTES

__all__ = [
    "FEATURE_VARIANCE",
    "TOKEN_BUDGET_BYTES",
    "EncoderSource",
    "FeatureCache",
    "FeaturePair",
    "encoded_slice_indices",
    "extract_features",
    "feature_preview",
    "pool",
    "reduce_jointly",
    "tokens_to_grid",
]
