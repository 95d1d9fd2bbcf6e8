"""What the service answers, one module a resource; each has its `router`."""
