"""Zarr chunks as they lie on a medium: counted, decoded straight into memory that is used again."""
