"""SIF, the file of apptainer and singularity: a squashfs with its definition before it."""
