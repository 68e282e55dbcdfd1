"""Networks of the encoders: code that needs torch when it is imported, kept apart so that listing them does not."""
