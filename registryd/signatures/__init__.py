"""Signatures of images: what they are and whom they satisfy. Bytes in, verdicts out."""
