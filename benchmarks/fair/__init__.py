"""The methods of the default job, each at its best: tuned on validation samples."""
