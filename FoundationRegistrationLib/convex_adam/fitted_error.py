"""The model of the expected error, as `Testing/benchmarks/confidence.py fit` wrote it.

A gamma regression, with a logarithmic link, of the displacement's error in cells on the logarithms of the
measures of `confidence.py`.

Fitted on 158120 points of the bodies, about as many of each pair, of
phantoms of each task and of CT to MR with MIND alone, seeds 10, 11, at 2.5 and 4.0 mm,
registered with the presets of the tasks, or with MIND alone.
"""

INTERCEPT = 0.2777
# Measure: its coefficient, and the range of the measure that the fit saw.
COEFFICIENTS = {
    "width": (0.2094, -2.9957, 0.4813),
    "bending": (0.6039, -3.4926, -0.8289),
    "disagreement": (0.1825, -1.8921, 1.4502),
}
