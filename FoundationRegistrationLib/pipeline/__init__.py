"""One registration, step by step; `registration` alone knows the order of the steps."""
