"""CIFAR-10, from files of several kinds."""
