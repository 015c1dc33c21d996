"""Suites: reading and checking them."""
