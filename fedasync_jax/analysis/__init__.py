"""Tables of many runs, and estimates with intervals."""
