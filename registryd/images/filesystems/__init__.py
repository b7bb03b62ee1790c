"""File systems that we write ourselves, block by block: nothing is mounted or unpacked."""
