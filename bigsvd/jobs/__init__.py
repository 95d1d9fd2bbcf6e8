"""Jobs: decompositions that outlive their terminal, each with a record beside its output."""
