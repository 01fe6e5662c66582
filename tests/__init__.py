"""The Python tests, run as modules from the project's root, such as `python3 -m tests.docs.run`.

`tests.common` has the code that they share. The scripts in `scripts/check/` run them and say which programs they need.
"""
