"""What a worker runs: the agent, and what assigns, pauses and monitors its partitions."""
