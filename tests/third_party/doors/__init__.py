"""Small plugins, one a file, that use each open door of the core."""
