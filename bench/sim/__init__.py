"""A simulator of the cluster that runs the daemon's own rules: see bench/sim/cluster.py."""
