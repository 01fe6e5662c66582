"""Looks up what documents name: links and anchors, variables, metrics, commands with their flags, and paths of the project.

Invariant: names are looked up in the project itself (the tree, `--help`, a page of `/metrics`), never in a list kept for the
test. The exception is `KNOWN`, each entry of which has its reason.
"""

import glob
import os
import re
import shlex
import subprocess
from dataclasses import dataclass

from tests.docs.markdown import Problem, code_spans, headings, links, prose

KNOWN = {
    # The crate, as Rust writes it.
    "ruvvector_service",
}
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


def tree(root):
    """Returns the relative paths of all files of the project, without built and installed ones."""
    found = []
    for directory, below, files in os.walk(root, followlinks=False):
        below[:] = [one for one in below if one not in {".git", "target", "data", "node_modules", "__pycache__", ".venv"}]
        found += [os.path.relpath(os.path.join(directory, file), root) for file in files]
    return sorted(found)


def help_of(binary, *command):
    text = subprocess.run([binary, *command, "--help"], capture_output=True, text=True, check=True).stdout
    section = re.search(r"^Commands:\n((?:  .*\n)+)", text, re.MULTILINE)
    commands = re.findall(r"^  ([a-z][\w-]*)", section[1], re.MULTILINE) if section else []
    # Maps each flag to true if it takes a value.
    flags = {flag: bool(value) for flag, value in re.findall(r"^ +(?:-\w, )?(--[\w-]+)( <)?", text, re.MULTILINE)}
    return [one for one in commands if one != "help"], flags


@dataclass
class Lookup:
    """The names that exist."""

    root: str
    files: list
    variables: set
    # The default of each setting.
    defaults: dict
    words: set
    metrics: set
    commands: dict
    scripts: str

    @classmethod
    def of(cls, root, binary, page):
        files = tree(root)

        def text(path):
            with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
                return file.read()

        # The binary writes this page; a test compares both.
        settings = re.findall(r"\b[A-Z]+_\w+", text("docs/settings.md"))
        row = r"^\| `\w+` \| `(\w+)` \| [^|]* \| `?([^|`]*)`? \|"
        table = dict(re.findall(row, text("docs/settings.md"), re.MULTILINE))
        scripts = " ".join(text(path) for path in files if path.startswith(("scripts/", ".ci/")))
        schema = " ".join(text(path) for path in files if path.startswith("migrations/"))
        rules = " ".join(text(path) for path in files if path.startswith("alerts/"))
        metrics = set(re.findall(r"^(?:# (?:HELP|TYPE) )?([a-zA-Z_:]\w*)", page, re.MULTILINE))
        words = set(re.findall(r"\bruvvector_\w+", schema)) | set(re.findall(r"record: (\S+)", rules))
        commands, flags = help_of(binary)
        known = {(): (commands, flags)}
        for command in commands:
            known[(command,)] = help_of(binary, command)
            for below in known[(command,)][0]:
                known[(command, below)] = help_of(binary, command, below)
        variables = {*settings, *re.findall(r"\bRUVVECTOR_\w+", scripts)}
        return cls(root, files, variables, table, words | {"ruvvector_migrations"}, metrics, known, scripts)

    def check(self, document, saw):
        """Yields the problems of one document, and calls `saw` with the kind of each name that it looks up."""
        path, text = document.path, document.text
        code = [*code_spans(text)]
        shell = [block for block in document.blocks if block.language == "sh"]
        yield from self.check_links(path, text, saw)
        # These blocks name settings of other programs.
        foreign = [block for block in document.blocks if block.language in {"nginx", "conf", "ini"}]
        yield from self.check_names(path, text, foreign, saw)
        for line, span in code:
            yield from self.check_paths(path, line, span, in_text=True, saw=saw)
            yield from self.check_span(path, line, span, shell, saw)
        for block in shell:
            for offset, line in enumerate(block.text.split("\n")):
                yield from self.check_paths(path, block.line + 1 + offset, line, in_text=False, saw=saw)
            for at, words in invocations(block.text):
                yield from self.check_command(path, block.line + 1 + at, words, saw)

    def check_links(self, path, text, saw):
        for line, target in links(text):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            saw("links")
            file, _, anchor = target.partition("#")
            there = os.path.normpath(os.path.join(self.root, os.path.dirname(path), file or os.path.basename(path)))
            if not os.path.exists(there):
                yield Problem(path, line, f"a link to {target}: there is no such file")
            elif anchor:
                with open(there, encoding="utf-8") as linked:
                    if anchor not in headings(linked.read()):
                        yield Problem(path, line, f"a link to {target}: there is no such heading")

    def check_names(self, path, text, foreign, saw):
        # "`RUVVECTOR_WRITE_CONNECTIONS` (4)" states a default.
        plain = prose(text)
        for found in re.finditer(r"`(RUVVECTOR_\w+)`\s\(`?([\w. ]*\w)", plain):
            stated, default = amount(found[2]), amount(self.defaults.get(found[1], ""))
            if stated and default:
                saw("defaults")
                if stated != default:
                    line = plain.count("\n", 0, found.start()) + 1
                    yield Problem(path, line, f"{found[1]} is {self.defaults[found[1]]} by default, not {found[2]}")
        skipped = {block.line + at for block in foreign for at in range(1, block.text.count("\n") + 1)}
        # The run of a block checks the texts that its directives expect.
        for number, line in enumerate(re.sub(r"<!-- docs:.*?-->", "", text).split("\n"), 1):
            for name in re.findall(r"\bRUVVECTOR_[A-Z0-9_]*[A-Z0-9]\b(?!_|…)", line):
                saw("variables")
                if name not in self.variables | KNOWN:
                    yield Problem(path, number, f"{name} is no setting and no variable of a script")
            if number in skipped:
                continue
            for name in re.findall(r"(?<![\w/.-])(?:[a-z]+:)?ruvvector_[a-z0-9_]*[a-z0-9](?::\w+)*(?!\w|_|…|\*|\{…)", line):
                saw("metrics, rules, tables")
                if not {name, SUFFIX.sub("", name)} & (self.metrics | self.words | KNOWN):
                    yield Problem(path, number, f"{name} is no metric, no recorded rule and no table")

    def check_paths(self, path, line, text, in_text, saw):
        top = {file.split("/")[0] for file in self.files if "/" in file}
        inner = {file.split("/")[1] for file in self.files if file.startswith("src/") and file.count("/") > 1}
        for token in re.findall(r"(?<![\w/.$~}…<-])(?:\./)?[\w.-]+(?:/[\w.{},*-]*)*(?![\w/…<])", text):
            token = token.rstrip(".,").removeprefix("./")
            first, slash, _ = token.partition("/")
            ending = token.rsplit(".", 1)[-1]
            if slash and first in top:
                places = ["", os.path.dirname(path)]
            elif in_text and slash and first in inner and (ending == "rs" or token.endswith("/")):
                places = ["src"]
            elif in_text and slash and os.path.isdir(os.path.join(self.root, os.path.dirname(path) or "-", first)):
                places = [os.path.dirname(path)]
            elif in_text and not slash and ending in {"rs", "sh"} and "." in token[1:] and token == text:
                saw("paths")
                if not any(file.endswith("/" + token) for file in self.files):
                    yield Problem(path, line, f"{token}: the project has no such file")
                continue
            else:
                continue
            saw("paths")
            if not any(self.exists(os.path.join(place, one)) for place in places for one in braces(token)):
                yield Problem(path, line, f"{token}: the project has no such path")

    def exists(self, path):
        return bool(glob.glob(os.path.join(self.root, path)))

    def check_span(self, path, line, span, shell, saw):
        commands, _ = self.commands[()]
        words = span.split()
        for _, found in invocations(span):
            yield from self.check_command(path, line, found, saw)
        if len(words) > 1 and words[0] in commands and (words[1].startswith("--") or re.fullmatch(r"journal [a-z]+", span)):
            yield from self.check_command(path, line, words, saw)
        if re.match(r"--[a-z]", span):
            saw("flags")
            flag = re.match(r"--[\w-]+", span)[0]
            ours = any(flag in flags for _, flags in self.commands.values()) or flag in self.scripts
            # The flag of another program, which the document calls with it.
            if not ours and not any(flag in block.text for block in shell):
                yield Problem(path, line, f"{flag} is no flag of ours, of a script, or of a command here")

    def check_command(self, path, line, words, saw):
        """Checks one call of the binary; `words` follow its name."""
        saw("commands")
        command, words = (), list(words)
        while words:
            word = words.pop(0)
            commands, flags = self.commands[command]
            flag, equals, _ = word.partition("=")
            if word in commands:
                command = (*command, word)
            elif word == "help" or not re.fullmatch(r"--?[a-z][\w-]*", flag) and re.search(r"[^a-z-]", word):
                # A placeholder, or a word that the shell substitutes.
                continue
            elif flag in flags:
                if flags[flag] and not equals and words:
                    words.pop(0)
            elif flag not in ("-h", "-V", "--help", "--version"):
                yield Problem(path, line, f"`{' '.join(['ruvvector-service', *command])}` has no {word}")


def amount(text):
    """Reads a number with its unit, such as `8 s`, `8s`, `64MiB` or `10 min`; returns None for anything else."""
    found = re.fullmatch(r"(\d+) ?(ms|s|min|m|h|[KMG]iB)?", text.strip())
    units = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    return (int(found[1]) * units.get(found[2], 1), "B" if (found[2] or "").endswith("B") else found[2] and "t") if found else None


def braces(text):
    """Expands `a.{b,c}` as a shell does."""
    found = re.search(r"\{([^{}]*,[^{}]*)\}", text)
    if not found:
        return [text]
    return [one for part in found[1].split(",") for one in braces(text[: found.start()] + part + text[found.end() :])]


def invocations(text):
    """Yields each call of the binary in a shell's text: its line, and the words after its name."""
    joined = text.replace("\\\n", "  ")
    start = r"(?:^|[;&|(]|\b(?:do|then|exec|env|time|timeout \S+|run)\s)\s*(?:[A-Z_]+=(?:'[^']*'|\"[^\"]*\"|\S*)\s+)*"
    name = r"(?:[\w./~$-]*/)?ruvvector-service(?=\s|$)|cargo run(?: --release| --quiet)*(?: --(?=\s)|(?=\s*(?:#|$)))"
    call = rf"{start}(?:{name})([^;&|)\n#]*)"
    for found in re.finditer(call, joined, re.MULTILINE):
        try:
            words = shlex.split(re.sub(r"[<>].*", "", found[1]))
        except ValueError:
            words = found[1].split()
        yield text.count("\n", 0, found.start(1)), words
