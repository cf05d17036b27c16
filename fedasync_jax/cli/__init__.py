"""The command line: thin over ``jobs``."""
