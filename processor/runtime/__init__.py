"""The parts of the processor that depend on Faust."""
