"""The model of the expected error, as `python -m trust fit` in `Testing/benchmarks` wrote it.

A gamma regression, with a logarithmic link, of the displacement's error in cells on the predictors of
`expected_error.py`. Fitted on 34 runs of equal weight:

- VICTRE breast
- brain FLAIR, follow-up FLAIR
- brain FLAIR, follow-up T1W
- brain T1
- breast MR patch
- phantom, cross-sequence
- phantom, lesion
- phantom, longitudinal
- phantom, pet-ct-to-mri
"""

INTERCEPT = 1.1967
# Predictor: its coefficient, and the range that the fit saw.
COEFFICIENTS = {
    "width": (0.4578, -2.9957, 0.5965),
    "disagreement": (0.5574, -2.1055, 2.6087),
    "structure": (-0.6927, -0.8107, 3.0646),
}
# 90 % of the true errors are below this multiple of the expected one.
SPREAD = 2.16
