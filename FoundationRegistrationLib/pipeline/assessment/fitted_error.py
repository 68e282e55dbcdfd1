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

INTERCEPT = 0.6474
# Predictor: its coefficient, and the range that the fit saw.
COEFFICIENTS = {
    "width": (0.2432, -2.9957, 0.5334),
    "disagreement": (0.9386, -2.0579, 2.1656),
    "structure": (-0.6674, -0.3402, 2.9928),
}
# 90 % of the true errors are below this multiple of the expected one.
SPREAD = 2.21
