"""Parses blocks without running them.

Invariant: a kind of block that nothing here can parse is reported as unparsed, never as correct.
"""

import ast
import configparser
import json
import os
import re
import subprocess
import tempfile
import tomllib

import yaml

OUTSIDE = "/(?:etc|var|usr|opt|lib|srv|home|root|boot|mnt|dev/(?!null|stdin|stdout|stderr|fd))[\\w./-]*"
PROGRAMS = "sudo|systemctl|systemd-[a-z]+|journalctl|docker|podman|kubectl|helm|apt|apt-get|dpkg|useradd|sysctl|mount|iptables"


def parse_problem(block, text, tools):
    """Returns the syntax error of a block, or None. `text` is the block's text with the names of the test."""
    try:
        return PARSERS[block.language](text, tools)
    except (SyntaxError, ValueError, yaml.YAMLError, tomllib.TOMLDecodeError, configparser.Error) as error:
        return f"not {block.language}: {error}"


def sh(text, _):
    return complaint(["bash", "-n"], text)


def reach_problem(text):
    """Returns a path or program of the machine that a block would use, or None; the tests may run as root."""
    plain = re.sub(r"(?m)(^|\s)#.*", "", text)
    if found := re.search(rf"(?<![\w.:$}}/])(?:{OUTSIDE})(?![\w.-])|(?<![\w.-])(?:{PROGRAMS})(?![\w.:-])", plain):
        return f"it runs and reaches the machine itself: {found[0]}; use the directive `needs`"
    return None


def javascript(text, tools):
    return complaint([tools.node, "--check", "--input-type=module", "-"], text)


def python(text, _):
    ast.parse(text)


def toml(text, tools):
    tomllib.loads(text)
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        # The file may leave the store to other settings.
        found = subprocess.run(
            [tools.binary, "validate", "--config", file.name], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
        )
    return None if found.returncode == 0 else (found.stderr or found.stdout).strip()


def ini(text, _):
    # systemd's files repeat keys.
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.read_string(text)


def braces(text, _):
    plain = re.sub(r"#.*|\"(?:[^\"\\]|\\.)*\"|'[^']*'", "", text)
    depth = 0
    for mark in re.findall(r"[{}]", plain):
        depth += 1 if mark == "{" else -1
        if depth < 0:
            break
    return "its braces do not match" if depth else None


def nginx(text, tools):
    plain = re.sub(r"#.*", "", re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", "x", text))
    open_ended = re.search(r"[^;{}\s][^;{}]*(\}|$)", plain)
    return braces(text, tools) or ("a directive without its semicolon" if open_ended else None)


def complaint(command, text):
    found = subprocess.run(command, input=text, capture_output=True, text=True)
    return None if found.returncode == 0 else found.stderr.strip()


PARSERS = {
    "sh": sh,
    "javascript": javascript,
    "python": python,
    "toml": toml,
    "ini": ini,
    "yaml": lambda text, _: list(yaml.safe_load_all(text)) and None,
    "json": lambda text, _: json.loads(text) and None,
    "nginx": nginx,
    "conf": braces,
    # Only a database, Prometheus or a reader can check these.
    "sql": lambda text, _: None,
    "promql": lambda text, _: None,
    "text": lambda text, _: None,
}
