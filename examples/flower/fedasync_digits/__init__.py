"""FedAsync on handwritten digits, between real machines."""
