"""What a user prepares for a better run: an alignment by hand, landmarks, a mask."""
