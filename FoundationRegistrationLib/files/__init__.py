"""Files of any kind: bounded reading, atomic writing, and sharing between runs."""
