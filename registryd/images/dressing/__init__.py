"""The small files by which other tools start a flattened image: one squashfs is enough for all."""
