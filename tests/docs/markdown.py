"""Parses Markdown for the documentation's test: fenced blocks with their directives, code in text, links and headings.

Invariant: this module reads only the text; each error in it is a `Problem` with its line, never an exception.
"""

import re
from dataclasses import dataclass, field

LANGUAGES = {
    *("sh", "sql", "promql", "python", "javascript"),
    *("toml", "yaml", "json", "ini", "nginx", "conf", "text"),
}
RUNNABLE = {"sh", "sql", "promql", "python"}
NEEDS = {"systemd", "docker", "cluster", "root", "time", "tool", "network"}

FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*(.*?)\s*$")
COMMENT = re.compile(r"^\s*<!--\s*docs:(.*?)-->\s*$")
ITEM = re.compile(r"""\s*([a-z]+)(?:\s*=\s*|\s+)?("(?:[^"\\]|\\.)*"|/(?:[^/\\]|\\.)+/|[^\s;"/][^;"]*)?\s*(?:;|$)""")


@dataclass
class Problem:
    path: str
    line: int
    text: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.text}"


@dataclass
class Block:
    """A fenced block; `line` is the number of its fence."""

    path: str
    line: int
    language: str
    text: str
    expects: list = field(default_factory=list)
    fails: int | bool = False
    file: str | None = None
    needs: str | None = None
    background: str | None = None
    output: bool = False
    # The file of the project that contains the block's lines.
    copy: str | None = None

    @property
    def runs(self):
        return self.language in RUNNABLE and not self.file and not self.needs


@dataclass
class Document:
    path: str
    text: str
    blocks: list
    # The values of `service`: `sqlite`, `none`, `KEY=VALUE`.
    world: list
    problems: list


def slug(heading):
    """Returns a heading's anchor by GitHub's rule."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    plain = re.sub(r"(\*\*|__|\*)(?=\S)(.+?)(?<=\S)\1", r"\2", plain)
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def parse(path, text):
    document = Document(path, text, [], [], [])
    lines = text.split("\n")
    waiting, number, in_list = [], 0, False

    def say(line, what):
        document.problems.append(Problem(path, line, what))

    def dangling():
        for line, _ in waiting:
            say(line, "a directive that no fence follows")
        waiting.clear()

    while number < len(lines):
        line = lines[number]
        number += 1
        if comment := COMMENT.match(line):
            items = directives(comment[1], lambda what: say(number, what))
            if any(name == "service" for name, _ in items):
                world(document, items, number, say)
            else:
                waiting.append((number, items))
        elif fence := FENCE.match(line):
            number = block(document, lines, number, fence, waiting, say)
            waiting.clear()
        else:
            dangling()
            if re.match(r"^(    |\t)\S", line) and not in_list and not lines[number - 2].strip():
                say(number, "a block set by indenting, which is not tested: fence it")
            if line.strip() and not line.startswith(" "):
                in_list = bool(re.match(r"([-*+]|\d+[.)])\s", line))
    dangling()
    return document


def directives(text, say):
    items, at = [], 0
    while text[at:].strip():
        found = ITEM.match(text, at)
        if not found:
            say(f"a directive that cannot be read: {text[at:].strip()}")
            break
        items.append((found[1], (found[2] or "").strip()))
        at = found.end()
    return items


def world(document, items, line, say):
    if document.blocks:
        say(line, "`service` stands before the first fence")
    for name, value in items:
        if name != "service" or not (value in ("sqlite", "none") or re.fullmatch(r"[A-Z_]+=.*", value)):
            say(line, f"no such directive beside `service`: {name} {value}")
        else:
            document.world.append(value)


def block(document, lines, number, fence, waiting, say):
    """Reads the block whose fence is line `number`; returns the number of the line after it."""
    indent, marks, language = fence.groups()
    start = number
    content = []
    while number < len(lines) and not re.fullmatch(rf"\s*{marks[0]}{{{len(marks)},}}\s*", lines[number]):
        content.append(lines[number].removeprefix(indent))
        number += 1
    if number == len(lines):
        say(start, "a fence that is never closed")
    found = Block(document.path, start, language, "\n".join(content) + "\n")
    if not language:
        say(start, "a fence without a word that says what is in it")
    elif language not in LANGUAGES:
        say(start, f"a fence of an unknown kind: {language}; known are {', '.join(sorted(LANGUAGES))}")
    for line, items in waiting:
        for name, value in items:
            if problem := apply(found, name, value, document):
                say(line, problem)
    if found.background and not found.expects:
        say(start, "`background` wants an `expect`, which says that it has begun")
    document.blocks.append(found)
    return number + 1


def apply(found, name, value, document):
    """Adds a directive to a block; returns its error, or None."""
    if name == "expect" and re.fullmatch(r'".*"|/.*/', value, re.DOTALL):
        inner = value[1:-1] if value[0] == "/" else re.sub(r"\\(.)", r"\1", value[1:-1])
        # A text in slashes within quotes is a regular expression, too.
        if value[0] == "/" or re.fullmatch(r"/.+/", inner):
            inner = inner if value[0] == "/" else inner[1:-1]
            try:
                found.expects.append(("regex", re.compile(inner, re.MULTILINE).pattern))
            except re.error as error:
                return f"not a regex: {inner}: {error}"
        else:
            found.expects.append(("text", inner))
        if found.language not in RUNNABLE or found.file or found.needs:
            return "`expect` on what is not run"
    elif name == "fails" and re.fullmatch(r"\d*", value):
        found.fails = int(value) if value else True
        if found.language not in RUNNABLE:
            return "`fails` on what is not run"
    elif name == "file" and re.fullmatch(r"[\w.][\w./-]*", value) and ".." not in value:
        found.file = value
        if found.expects or found.needs:
            return "`file` beside a directive for a block that is run"
    elif name == "copy" and value:
        found.copy = value
    elif name == "needs":
        found.needs = value
        if value not in NEEDS:
            return f"`needs {value}`: known reasons are {', '.join(sorted(NEEDS))}"
        if found.language not in RUNNABLE or found.expects:
            return "`needs` on what is not run, or beside `expect`"
    elif name == "background" and value in ("", "instead"):
        found.background = value or "start"
        if found.language != "sh":
            return "`background` is for `sh` alone"
    elif name == "output" and not value:
        found.output = True
        before = next((one for one in reversed(document.blocks) if not one.output), None)
        if found.language not in ("text", "json") or not before or not before.runs:
            return "`output` is of a `text` or `json` block after one that is run"
    else:
        return f"no such directive: {name} {value}".rstrip()
    return None


def prose(text):
    """Returns the text with empty lines for fenced blocks and comments, so that lines keep their numbers."""
    lines, marks = [], None
    for line in text.split("\n"):
        fence = FENCE.match(line)
        if marks:
            lines.append("")
            if re.fullmatch(rf"\s*{marks[0]}{{{len(marks)},}}\s*", line):
                marks = None
        elif fence:
            marks = fence[2]
            lines.append("")
        else:
            lines.append(re.sub(r"<!--.*?-->", "", line))
    return "\n".join(lines)


def headings(text):
    """Returns the anchors of a document."""
    seen, anchors = {}, set()
    for heading in re.findall(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$", prose(text), re.MULTILINE):
        name = slug(heading)
        count = seen.get(name, 0)
        seen[name] = count + 1
        anchors.add(f"{name}-{count}" if count else name)
    return anchors | set(re.findall(r"<a\s+(?:id|name)=\"([^\"]+)\"", text))


def links(text):
    """Yields line and target of every link and image."""
    plain = re.sub(r"`[^`\n]*`", lambda code: " " * len(code[0]), prose(text))
    for found in re.finditer(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\s*\[[^\]]+\]:\s+(\S+)", plain, re.MULTILINE):
        yield plain.count("\n", 0, found.start()) + 1, found[1] or found[2]


def code_spans(text):
    """Yields line and text of every code span."""
    plain = prose(text)
    for found in re.finditer(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", plain, re.DOTALL):
        if "\n\n" not in found[2]:
            yield plain.count("\n", 0, found.start()) + 1, re.sub(r"\s+", " ", found[2]).strip()
