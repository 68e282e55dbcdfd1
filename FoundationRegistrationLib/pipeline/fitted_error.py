"""The model of the expected error, as `Testing/benchmarks/expected_error.py fit` wrote it.

A gamma regression, with a logarithmic link, of the displacement's error in cells on the logarithms of the
predictors of `expected_error.py`.

Fitted on 158111 points of the bodies, about as many of each pair, of
phantoms of each task and of CT to MR with MIND alone, seeds 10, 11, at 2.5 and 4.0 mm,
registered with the presets of the tasks, or with MIND alone.
"""

INTERCEPT = -0.1791
# Measure: its coefficient, and the range of the measure that the fit saw.
COEFFICIENTS = {
    "width": (0.2139, -2.9957, 0.4829),
    "bending": (0.4316, -3.5686, -1.1654),
    "disagreement": (0.2209, -1.9167, 1.2607),
    "structure": (0.0, 0.0, 2.0),
}
# 90 % of the true errors are below this multiple of the expected one.
SPREAD = 2.0
