"""Files in and out: volumes, and whatever else is read or written."""
