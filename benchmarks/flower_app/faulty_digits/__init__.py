"""FedAsync with nodes that are slow, hostile or broken, for tests."""
