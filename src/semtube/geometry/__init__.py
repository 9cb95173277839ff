"""What hidden-state trajectories look like: measures, each with its null."""
