"""What a person can ask of a node: the verbs of /api/v1, as methods."""

from registryd.operations.node import Node as Node
from registryd.operations.verbs import Operations as Operations
