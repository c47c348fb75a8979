"""What operators see of requests: the end of each one counted and logged, log lines, traces."""
