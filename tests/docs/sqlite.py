"""Runs the SQL of standard input on a SQLite file and prints rows as SQLite's shell does, with bars between values."""

import sqlite3
import sys

connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=rw", uri=True, timeout=10)
statement = ""
for line in sys.stdin:
    statement += line
    if sqlite3.complete_statement(statement):
        for row in connection.execute(statement):
            print("|".join("" if value is None else str(value) for value in row))
        statement = ""
if statement.strip():
    connection.execute(statement)
connection.commit()
