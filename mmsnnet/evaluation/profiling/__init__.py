"""What routes take: latency, and memory in use and in training."""
