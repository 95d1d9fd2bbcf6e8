"""What this machine allows a run, how fast it is, and how much of it a process holds."""
