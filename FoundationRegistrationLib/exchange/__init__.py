"""Hand-over of a finished registration to other programs and to the archive."""
