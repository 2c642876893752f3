"""Dead letters: reading, filtering, replay."""
