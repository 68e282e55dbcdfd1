"""What a run runs on: device, memory, progress, interruption."""
