"""Which methods there are and how wide their blocks are: what the planner must know without importing them."""
