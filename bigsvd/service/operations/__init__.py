"""What an operator asks of a server: whether it can work, what it has counted, where there is room."""
