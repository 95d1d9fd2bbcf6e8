"""Which methods there are, and how wide their blocks are: what the planner knows without importing them."""
