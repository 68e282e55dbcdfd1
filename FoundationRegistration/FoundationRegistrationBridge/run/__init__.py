"""One registration: inputs checked and written to files, the engine followed, its results as nodes."""
