"""Results as Zarr groups, and what of them is kept in memory."""
