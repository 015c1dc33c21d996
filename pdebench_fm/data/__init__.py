"""Where examples come from: sampled and solved on demand, read from HDF5, mixed, selected, kept in memory."""
