"""Images imported for many users: a durable queue, access lists, expiry, and Shifter's contract."""
