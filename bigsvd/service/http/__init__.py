"""What all routes share: who asks, what bodies may be, how errors and arrays are answered."""
