"""A whole cluster on one machine: PostgreSQL with standbys, replicas, Envoy, Prometheus."""
