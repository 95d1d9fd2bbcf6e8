"""The queue: jobs are taken in, wait in line, are begun, and followed until they have ended."""
