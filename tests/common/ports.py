"""Free ports of this machine's loopback address.

Invariant: no port is returned twice by one process.
"""

import contextlib
import random
import socket
import threading

# Linux takes outgoing ports from 32768 on. A port from that range could be taken before its server listens on it.
RANGE = range(15_000, 32_000)
GIVEN = set()
LOCK = threading.Lock()


def free_port():
    """Returns a port, as text, on which nothing listens."""
    with LOCK:
        while True:
            port = random.choice(RANGE)
            with socket.socket() as attempt, contextlib.suppress(OSError):
                attempt.bind(("127.0.0.1", port))
                if port not in GIVEN:
                    GIVEN.add(port)
                    return str(port)


def free_address():
    return f"127.0.0.1:{free_port()}"
