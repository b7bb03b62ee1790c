"""What can go wrong between a scheduler and us."""

from cache.errors import CacheError


class RecordUnwritable(CacheError):
    """Raised when the record of a job cannot be written or taken away."""


class SchedulerRefused(CacheError):
    """Raised when a command of the scheduler's own fails; says what it said."""
