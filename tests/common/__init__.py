"""Code that the Python tests share: ports, programs, servers, PostgreSQL, PromQL and traffic."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
