"""The factor store: what a result is on disk, how it gets there, and what is read off it."""
