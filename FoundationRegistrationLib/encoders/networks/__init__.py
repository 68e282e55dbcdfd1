"""Networks of the encoders: code that imports torch, kept separate so that listing the encoders does not."""
