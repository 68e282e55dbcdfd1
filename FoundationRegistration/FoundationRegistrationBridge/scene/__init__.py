"""What the scene holds of registrations: transforms, maps, who carried what, undo."""
