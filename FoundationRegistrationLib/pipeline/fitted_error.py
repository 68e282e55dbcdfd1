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

INTERCEPT = 0.9249
# Predictor: its coefficient, and the range that the fit saw.
COEFFICIENTS = {
    "width": (0.4460, -2.9957, 0.5832),
    "disagreement": (0.7455, -2.0465, 2.5883),
    "structure": (-0.5950, -0.6984, 2.9772),
}
# 90 % of the true errors are below this multiple of the expected one.
SPREAD = 2.20
