"""The daemon's HTTP side: /v2, /api/v1, health and metrics."""
