"""How a point is scored."""
