"""Settings become objects: data, model, fleet, schedule, methods."""
