"""The database of the service: its tables, the thread that writes them, tokens and links."""
