"""Random damage to command lines, data files and run folders, and what comes of it."""
