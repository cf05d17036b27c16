"""Experiments as they are run: sessions, runners, jobs, sweeps, and who is told."""
