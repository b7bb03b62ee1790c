"""Batch schedulers: what their scripts are told of a job, and what we tell its steps (values)."""
