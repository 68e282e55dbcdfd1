"""What the scene holds of registrations: transforms, who carried what, what belongs together, undo."""
