"""The model of the expected error, as `Testing/benchmarks/confidence.py fit` wrote it.

A gamma regression, with a logarithmic link, of the displacement's error in cells on the logarithms of the
measures of `confidence.py`.

Fitted on 78964 points of the bodies, about as many of each pair, of
phantoms of each task and of CT to MR with MIND alone, seeds 10, 11, at 4.0 mm,
registered with the presets of the tasks, or with MIND alone.
"""

INTERCEPT = -0.0562
# Measure: its coefficient, and the range of the measure that the fit saw.
COEFFICIENTS = {
    "width": (0.1832, -2.9957, 0.4671),
    "bending": (0.4678, -3.3482, -0.9045),
    "disagreement": (0.2832, -1.7901, 1.4034),
}
