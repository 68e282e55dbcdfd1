"""A cohort from a BIDS dataset: its pairs in, a BIDS derivative out."""
