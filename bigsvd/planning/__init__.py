"""From a request and facts to a plan: pure arithmetic, nothing is read."""
