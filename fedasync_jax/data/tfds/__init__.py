"""Data sets of TensorFlow Datasets, prepared once and read without TensorFlow."""
