"""What can go wrong between a scheduler and us."""

from cache.errors import CacheError


class RecordUnwritable(CacheError):
    """Raised when the record of a job cannot be written or taken away."""


class FolderUnusable(CacheError):
    """Raised when a user's folder of images is not theirs alone, or cannot be written."""


class SchedulerRefused(CacheError):
    """Raised when a command of the scheduler's own fails; says what it said."""
