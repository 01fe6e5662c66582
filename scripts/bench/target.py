"""The description of one target."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass
class Target:
    name: str
    # Disk that it needs at most, in GiB, beside PostgreSQL's own 5.
    disk_gib: float
    about: str
    run: Callable
    # Programs beside those that every target needs.
    programs: tuple = ()
