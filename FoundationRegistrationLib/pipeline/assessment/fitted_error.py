"""The model of the expected error, as `python -m trust fit` in `Testing/benchmarks` wrote it.

A gamma regression, with a logarithmic link, of the displacement's error in cells on the predictors of
`expected_error.py`. Fitted on 54 runs of equal weight:

- VICTRE breast
- brain FLAIR, follow-up FLAIR
- brain FLAIR, follow-up T1W
- brain T1
- breast MR patch
- easy phantom, cross-sequence
- easy phantom, lesion
- easy phantom, longitudinal
- easy phantom, pet-ct-to-mri
- phantom, cross-sequence
- phantom, lesion
- phantom, longitudinal
- phantom, pet-ct-to-mri
"""

INTERCEPT = 0.8075
# Predictor: its coefficient, and the range that the fit saw.
COEFFICIENTS = {
    "width": (0.3046, -2.9957, 0.5472),
    "disagreement": (0.9258, -2.0610, 2.1936),
    "structure": (-0.6803, -0.3175, 2.9946),
}
# 90 % of the true errors are below this multiple of the expected one.
SPREAD = 2.25
