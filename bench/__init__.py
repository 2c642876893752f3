"""What the figures in docs/performance.md come from: real brokers, real processes, exact answers."""
