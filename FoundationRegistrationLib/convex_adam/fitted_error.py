"""The model of the expected error, as `Testing/benchmarks/confidence.py fit` wrote it.

A gamma regression, with a logarithmic link, of the displacement's error in cells on the logarithms of the
measures of `confidence.py`.

Fitted on 63504 points of the bodies, about as many of each pair, of
phantoms of each task, seeds 10, 11, at 2.5 mm,
registered with the presets of the tasks.
"""

INTERCEPT = -0.2117
# Measure: its coefficient, and the range of the measure that the fit saw.
COEFFICIENTS = {
    "width": (0.2276, -2.9957, 0.4506),
    "bending": (0.3921, -3.2300, -0.8847),
    "disagreement": (0.2084, -1.8295, 1.7334),
}
