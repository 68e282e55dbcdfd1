"""What a registration would take, from the volumes and from earlier runs on this machine."""
