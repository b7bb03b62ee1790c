"""The runtimes by name, and the other names under which people look for them."""

from __future__ import annotations

from typing import cast

from registryd.runtimes import apptainer, buildkit, containerd, docker, podman, slurm
from registryd.runtimes.plan import Runtime

RUNTIMES: dict[str, Runtime] = {
    "containerd": cast("Runtime", containerd),
    "podman": cast("Runtime", podman),
    "docker": cast("Runtime", docker),
    "buildkit": cast("Runtime", buildkit),
    "apptainer": cast("Runtime", apptainer),
    "slurm": cast("Runtime", slurm),
}
ALIASES = {
    "cri-o": "podman",
    "crio": "podman",
    "buildah": "podman",
    "skopeo": "podman",
    "nerdctl": "containerd",
    "kubernetes": "containerd",
    "dockerd": "docker",
    "buildkitd": "buildkit",
    "singularity": "apptainer",
}
