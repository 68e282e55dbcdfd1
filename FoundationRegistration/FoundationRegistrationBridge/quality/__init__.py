"""The quality of a registration: measured before and after, and shown as a table node."""
