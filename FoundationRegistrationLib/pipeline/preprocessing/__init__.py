"""From a volume as given to one that can be compared: modality, foreground, normalised intensities."""
