"""Dead letters: read, filtered, replayed."""
