"""All targets, in the order of docs/performance.md."""

from scripts.bench.targets import (
    acknowledging,
    embedding,
    encodings,
    growing,
    memory,
    querying,
    receiving,
    restarting,
    storing,
)

MODULES = [receiving, acknowledging, storing, encodings, embedding, memory, querying, growing, restarting]
TARGETS = {target.name: target for module in MODULES for target in module.TARGETS}
