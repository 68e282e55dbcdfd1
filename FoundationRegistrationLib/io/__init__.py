"""File input and output: exactly the named file, complete or not at all, with warnings about ambiguities."""
