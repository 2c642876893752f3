"""The capacity plan: measured figures, assumptions, and the resources of a fleet."""
