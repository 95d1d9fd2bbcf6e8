"""Passes over the data: where their tasks run, what a task does, and what it leaves in scratch."""
