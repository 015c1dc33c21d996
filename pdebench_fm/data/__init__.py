"""Examples: sampled, read from HDF5 files, mixed, selected, kept in memory."""
