"""The distribution and image specifications as values: parsed, validated, formatted; no I/O."""
