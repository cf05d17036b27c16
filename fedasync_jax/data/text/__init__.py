"""Texts, by words and by characters."""
