"""The capacity plan: figures, assumptions, and what they give for a fleet."""
