"""A simulated fleet that submits to a gateway."""
