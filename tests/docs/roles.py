"""Logs in as each role that a document makes, and does what it was made for.

Invariant: no role of a document has a right that the document's own SQL did not give it.
"""

import re
import subprocess
import urllib.parse

LOGIN = re.compile(r"(?i)\bCREATE\s+(?:ROLE|USER)\s+(\w+)\s+LOGIN\b")
READS = re.compile(r"(?i)\bGRANT\s+SELECT\s+ON\s+([\w\s,.]+?)\s+TO\s+(\w+)")
OWNS = re.compile(r"(?i)\bCREATE\s+(?:SCHEMA|DATABASE)\s+\w+\s+(?:AUTHORIZATION|OWNER)\s+(\w+)")
DATABASE = re.compile(r"(?i)\bCREATE\s+DATABASE\s+(\w+)")


def made(text):
    """The roles that may log in."""
    return LOGIN.findall(text)


def problem(world, text):
    """What a role cannot do in the document's database that this SQL made it for; None if all is well."""
    return tried(world.url, text)


def problem_of_file(world, text):
    """The same for a file of SQL, which makes a database of its own: run here under names that nobody else has."""
    databases = DATABASE.findall(text)
    names = {name: f"{world.database}_{name}" for name in [*databases, *made(text)]}
    for name, other in names.items():
        text = re.sub(rf"\b{name}\b", other, text)
    try:
        for statement in filter(str.strip, text.split(";")):
            world.admin(statement)
        own = [urllib.parse.urlsplit(world.tools.postgres)._replace(path=f"/{names[name]}").geturl() for name in databases]
        return next(filter(None, (tried(url, text) for url in own)), None)
    except subprocess.CalledProcessError as error:
        return f"the file does not run: {error.cmd[-2]}"
    finally:
        for name in databases:
            world.admin(f'DROP DATABASE IF EXISTS "{names[name]}" WITH (FORCE)')
        for role in made(text):
            world.admin(f'DROP ROLE IF EXISTS "{role}"')


def tried(url, text):
    for role in made(text):
        if said := login(url, role, "SELECT 1"):
            return f"the role {role} cannot log in: {said}"
        for tables, reader in READS.findall(text):
            for table in tables.split(",") if reader == role else []:
                if said := login(url, role, f"SELECT FROM {table.strip()} LIMIT 1"):
                    return f"the role {role} cannot SELECT from {table.strip()}: {said}"
        if role in OWNS.findall(text) and (said := login(url, role, "BEGIN; CREATE TABLE tried (n int); ROLLBACK")):
            return f"the role {role} cannot make a table: {said}"
    return None


def login(url, role, sql):
    """What the server said to it; None if it did as asked."""
    parts = urllib.parse.urlsplit(url)
    url = parts._replace(netloc=f"{role}@{parts.hostname}:{parts.port}").geturl()
    done = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, url], capture_output=True, text=True)
    return done.stderr.strip() or "an error" if done.returncode else None
