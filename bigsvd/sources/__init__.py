"""Where A comes from, seen as an m×n matrix that is read in rectangles."""
