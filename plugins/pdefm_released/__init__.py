"""Released PDE foundation models: their networks, read from the published files of weights."""
