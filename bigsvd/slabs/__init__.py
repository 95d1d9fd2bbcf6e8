"""What was read of a matrix, and what becomes of it before it is multiplied."""
