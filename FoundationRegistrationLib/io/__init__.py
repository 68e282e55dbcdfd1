"""Files in and out: what was named is what is read, whole or not at all, and what is doubtful is said."""
