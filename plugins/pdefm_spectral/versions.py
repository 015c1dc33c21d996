"""Versions of this plugin's entries; bump one whenever a score could change (it is part of the random stream too)."""

POISSON = "1"
ADVECTION_DIFFUSION = "1"
HELMHOLTZ = "1"
