"""The client: jobs and results of a service, as `bigsvd.submit` and `bigsvd.open` have those here."""
