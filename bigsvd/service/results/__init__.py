"""Results of jobs: found by id, kept as long as the operator says, deleted."""
