"""The model of the expected error, as `Testing/benchmarks/confidence.py fit` wrote it.

A gamma regression, with a logarithmic link, of the displacement's error in cells on the logarithms of the
measures of `confidence.py`.

Fitted on 158120 points of the bodies, about as many of each pair, of
phantoms of each task and of CT to MR with MIND alone, seeds 10, 11, at 2.5 and 4.0 mm,
registered with the presets of the tasks, or with MIND alone.
"""

INTERCEPT = 0.2935
# Measure: its coefficient, and the range of the measure that the fit saw.
COEFFICIENTS = {
    "width": (0.2247, -2.9957, 0.4813),
    "bending": (0.6109, -3.4085, -0.8289),
    "disagreement": (0.1713, -1.9157, 1.4502),
}
