"""The description of one target."""

import dataclasses
from collections.abc import Callable

# Data directory, write-ahead log and temporary files of a PostgreSQL without rows.
POSTGRES_GIB = 5


@dataclasses.dataclass
class Target:
    name: str
    # Disk that it needs at most, beside PostgreSQL's own: always, and for each row of `--rows`.
    disk_gib: float
    about: str
    run: Callable
    row_bytes: int = 0
    # Programs beside those that every target needs.
    programs: tuple = ()

    def disk_needed_gib(self, rows):
        return POSTGRES_GIB + self.disk_gib + rows * self.row_bytes / (1 << 30)
