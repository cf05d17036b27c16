"""What a setting may be, and parts that are chosen by name: bounds, registries."""
