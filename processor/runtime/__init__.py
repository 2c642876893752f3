"""Everything that is specific to Faust."""
