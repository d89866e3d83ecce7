"""What those who run a server see of it: metrics, probes, traces, and what systemd is told."""
