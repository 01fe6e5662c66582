"""Logs in as each role that a document creates and uses the rights that the document grants it.

Invariant: no role of a document has a right that the document's own SQL did not grant.
"""

import re
import urllib.parse

from tests.common.postgres import psql, with_database

LOGIN = re.compile(r"(?i)\bCREATE\s+(?:ROLE|USER)\s+(\w+)\s+LOGIN\b")
READS = re.compile(r"(?i)\bGRANT\s+SELECT\s+ON\s+([\w\s,.]+?)\s+TO\s+(\w+)")
OWNS = re.compile(r"(?i)\bCREATE\s+(?:SCHEMA|DATABASE)\s+\w+\s+(?:AUTHORIZATION|OWNER)\s+(\w+)")
DATABASE = re.compile(r"(?i)\bCREATE\s+DATABASE\s+(\w+)")


def made(text):
    """Returns the roles that may log in."""
    return LOGIN.findall(text)


def problem(world, text):
    """Returns a granted right that a role cannot use in the document's database, or None."""
    return tried(world.url, text)


def problem_of_file(world, text):
    """Does the same for a file of SQL, which creates a database; here the database and its roles have unique names."""
    databases = DATABASE.findall(text)
    names = {name: f"{world.database}_{name}" for name in [*databases, *made(text)]}
    for name, other in names.items():
        text = re.sub(rf"\b{name}\b", other, text)
    try:
        for statement in filter(str.strip, text.split(";")):
            world.admin(statement)
        own = [with_database(world.tools.postgres, names[name]) for name in databases]
        return next(filter(None, (tried(url, text) for url in own)), None)
    except AssertionError as error:
        return f"the file does not run: {error}"
    finally:
        for name in databases:
            world.admin(f'DROP DATABASE IF EXISTS "{names[name]}" WITH (FORCE)')
        for role in made(text):
            world.admin(f'DROP ROLE IF EXISTS "{role}"')


def tried(url, text):
    for role in made(text):
        if error := login(url, role, "SELECT 1"):
            return f"the role {role} cannot log in: {error}"
        for tables, reader in READS.findall(text):
            for table in tables.split(",") if reader == role else []:
                if error := login(url, role, f"SELECT FROM {table.strip()} LIMIT 1"):
                    return f"the role {role} cannot SELECT from {table.strip()}: {error}"
        if role in OWNS.findall(text) and (error := login(url, role, "BEGIN; CREATE TABLE tried (n int); ROLLBACK")):
            return f"the role {role} cannot make a table: {error}"
    return None


def login(url, role, sql):
    """Returns the server's error, or None if the statement succeeded."""
    parts = urllib.parse.urlsplit(url)
    url = parts._replace(netloc=f"{role}@{parts.hostname}:{parts.port}").geturl()
    done = psql(url, sql)
    return done.stderr.strip() or "an error" if done.returncode else None
