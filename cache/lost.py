"""What ``index.json`` tells of a cache and ``cache.db`` does not: names and what was made of what.

A name that is in the one alone was lost with the other, all of it or its last pages, or is of a
process that was killed while it removed the name, which then has not been removed.
"""

from __future__ import annotations

from cache.content import Descriptor, Digest
from cache.files import Files
from cache.index import Index
from cache.layout import parse_index, parse_made

Lost = tuple[list[tuple[str, Descriptor]], list[tuple[Digest, Descriptor]]]


def lost(files: Files, index: Index) -> Lost:
    """Names, and what was made here of what, that the index does not know. Blocks.

    Raises StoreUnusable, and sqlite3.Error as the index does.
    """
    content = files.read_index()
    recorded = set(index.made.all())
    names = parse_index(content, index.tables.names())
    return names, [each for each in parse_made(content) if each not in recorded]
