"""Where the deformable stages start: a transform that is given, or one found by `search`."""
