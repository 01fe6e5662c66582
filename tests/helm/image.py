"""Checks the Dockerfile without a container engine: its copied files are enough for the build, and its image runs.

    python3 -m tests.helm.image BINARY

The script that the Dockerfile runs writes the image's root, and the commands run in that root, as the image's user and with the
image's variables. The root has no shell and no other files.
"""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import tomllib
from pathlib import Path

import yaml

from tests.common import ROOT
from tests.common.ports import free_port
from tests.common.programs import RUN_SECONDS, run, until


class Dockerfile:
    """The instructions of the two stages."""

    def __init__(self, text):
        lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
        self.arguments = {}
        self.stages = []
        for line in lines:
            word, rest = line.split(None, 1)
            if word == "FROM":
                self.stages.append([])
            elif not self.stages:
                name, value = rest.split("=", 1)
                self.arguments[name] = value
            if self.stages:
                self.stages[-1].append((word, rest.strip()))
        self.build, self.image = self.stages

    def all(self, stage, word):
        return [rest for each, rest in stage if each == word]

    def one(self, stage, word):
        (rest,) = self.all(stage, word)
        return rest

    def environment(self):
        return dict(pair.split("=", 1) for pair in self.one(self.image, "ENV").split())

    def copied(self):
        """Yields source and target of each file or folder that the first stage copies from the context."""
        for rest in self.all(self.build, "COPY"):
            *sources, target = rest.split()
            for source in sources:
                yield source, target


def pattern(text):
    """Turns a line of .dockerignore into a regular expression for a path and everything below it."""
    parts = re.split(r"(\*\*/?|\*|\?)", text.strip().strip("/"))
    known = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts) + "(/.*)?")


def context():
    """Yields the files of the build context: those of the project that .dockerignore leaves; its last matching line decides."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.strip() and not line.startswith("#")]
    rules = [(pattern(line.lstrip("!")), line.startswith("!")) for line in rules]
    for folder, folders, files in os.walk(ROOT):
        if Path(folder) == ROOT:
            # Built and fetched files are not part of the project.
            folders[:] = sorted(set(folders) - {"target", ".git"})
        for name in files:
            path = str((Path(folder) / name).relative_to(ROOT))
            kept = True
            for expression, keeps in rules:
                if expression.fullmatch(path):
                    kept = keeps
            if kept:
                yield path


def check_package(folder):
    """Cargo accepts the copy with its lock file and finds every target of the manifest; otherwise it builds none."""
    host = re.search(r"^host: (.+)$", run("rustc", "-vV").stdout, re.M)[1]
    options = ("--locked", "--offline", "--format-version=1", "--filter-platform", host)
    done = run("cargo", "metadata", *options, cwd=folder)
    assert done.returncode == 0, f"the copy is no package: {done.stderr}"
    (package,) = [each for each in json.loads(done.stdout)["packages"] if each["name"] == "ruvvector-service"]
    found = {(target["kind"][0], target["name"]) for target in package["targets"] if Path(target["src_path"]).exists()}
    manifest = tomllib.loads((folder / "Cargo.toml").read_text())
    named = {(kind, target["name"]) for kind in ("bin", "test", "bench") for target in manifest[kind]}
    assert named <= found, f"Cargo.toml names what the Dockerfile does not copy: {named - found}"


def compiled(binary):
    """Returns the project's files that the compiler read for the library, from the list that it writes beside the binary."""
    rules = {}
    for file in binary.parent.glob("deps/ruvvector_service-*.d"):
        # The library itself; its unit tests read more files.
        if found := re.search(r"^\S*/libruvvector_service-\w+\.rlib: (.+)$", file.read_text(), re.M):
            rules[file.stat().st_mtime] = found[1]
    assert rules, f"{binary.parent}/deps does not list the library's files: cargo build"
    base = f"{binary.parents[2]}/"
    files = [file.removeprefix(base) for file in rules[max(rules)].split()]
    assert len(files) > 50 and not any(file.startswith("/") for file in files), files[:3]
    return files


def check_context(dockerfile, binary):
    """With the copied files alone, Cargo finds every target, and the compiler every file that it read for the binary."""
    seen = list(context())
    assert not any(path.startswith(("helm/", "docs/", ".git")) for path in seen), "the context has files that no build reads"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for source, target in dockerfile.copied():
            copied = [path for path in seen if path == source or path.startswith(f"{source}/")]
            assert copied, f"COPY {source}: it does not exist, or .dockerignore excludes it"
            for path in copied:
                # Docker copies a folder's content into the target, and a file under its name if the target ends in a slash.
                inside = path[len(source) + 1:] if path != source else ""
                place = folder / target / (inside or (Path(path).name if target.endswith("/") else ""))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, place)
        check_package(folder)
        files = compiled(binary)
        missing = [file for file in files if not (folder / file).exists()]
        assert not missing, f"the compiler reads what the Dockerfile does not copy: {missing}"
        for script in re.findall(r"scripts/\S+\.sh", dockerfile.one(dockerfile.build, "RUN")):
            assert os.access(folder / script, os.X_OK), f"{script} is not copied, or not executable"
    return len(files)


def check_versions(dockerfile):
    """All files name one version, and the compiler of Cargo.toml."""
    cargo = (ROOT / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.+)"$', cargo, re.M)[1]
    chart = yaml.safe_load((ROOT / "helm/ruvvector-service/Chart.yaml").read_text())
    assert {chart["version"], chart["appVersion"]} == {version}, "Chart.yaml"
    assert f"VERSION={version}" in dockerfile.all(dockerfile.image, "ARG"), "Dockerfile"
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert compose["services"]["ruvvector-service"]["image"] == f"ruvvector-service:{version}", "compose.yaml"
    rust = re.search(r'^rust-version = "(.+)"$', cargo, re.M)[1]
    assert re.fullmatch(rf"rust:{re.escape(rust)}-\w+", dockerfile.arguments["RUST"]), dockerfile.arguments


class Root:
    """The image's root file system, in which commands run as the image's user."""

    def __init__(self, dockerfile, binary, folder):
        self.path = folder / "root"
        self.environment = dockerfile.environment()
        self.user = dockerfile.one(dockerfile.image, "USER")
        done = run(ROOT / "scripts/operate/container-root.sh", binary, self.path)
        assert done.returncode == 0, done.stderr
        # Stands in for the volume; the image's own directory belongs to its user.
        (self.path / "data").mkdir(mode=0o777)
        (self.path / "data").chmod(0o777)
        folder.chmod(0o755)

    def command(self, *arguments):
        if os.getuid() == 0:
            return ["chroot", f"--userspec={self.user}", str(self.path), *arguments]
        return ["unshare", "--map-root-user", "chroot", str(self.path), *arguments]

    def started(self, *arguments, **environment):
        # Only chroot needs PATH.
        given = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"} | self.environment | environment
        return subprocess.Popen(self.command(*arguments), env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments, **environment):
        process = self.started(*arguments, **environment)
        output, _ = process.communicate(timeout=RUN_SECONDS)
        return process.returncode, output


def check_files(root, binary):
    """The root has the binary, its libraries, names and certificates, and only /tmp and /data are writable for others than root."""
    linked = {match for match in re.findall(r"/\S+", run("ldd", binary).stdout) if match.startswith(("/lib", "/usr/lib"))}
    wanted = linked | {"/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/usr/bin/ruvvector-service"}
    wanted |= {"/etc/ssl/certs/ca-certificates.crt"}
    found = {"/" + str(path.relative_to(root.path)) for path in root.path.rglob("*") if not path.is_dir()}
    assert found == wanted, f"unexpected: {found - wanted}; missing: {wanted - found}"
    for path in root.path.rglob("*"):
        mode = path.stat().st_mode
        assert not mode & 0o022 or path.name in ("tmp", "data"), f"{path} may be changed by others"
        assert not mode & 0o6000, f"{path} has a set-user-ID or set-group-ID bit"
    certificates = (root.path / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert certificates.count("BEGIN CERTIFICATE") > 50, "the public CAs are missing"


def check_life(dockerfile, root):
    """The service requires a store, starts, passes its health check, stops by the image's signal, and lists its journal."""
    entry = json.loads(dockerfile.one(dockerfile.image, "ENTRYPOINT"))
    code, output = root.run(*entry)
    assert code == 2 and "RUVVECTOR_STORE" in output and "sqlite" in output, f"a start without a store: {code}: {output}"
    main, http, grpc = free_port(), free_port(), free_port()
    given = {"RUVVECTOR_STORE": "sqlite", "RUVVECTOR_SERVICE_PORT": main}
    given |= {"RUVVECTOR_OTLP_HTTP_PORT": http, "RUVVECTOR_OTLP_GRPC_PORT": grpc}
    code, output = root.run(*entry, "validate", **given)
    assert code == 0 and "warning" not in output, output
    check = dockerfile.one(dockerfile.image, "HEALTHCHECK").split(" CMD ", 1)[1]
    process = root.started(*entry, **given)

    def healthy():
        assert process.poll() is None, f"it does not start: {process.stdout.read()}"
        return True if root.run(*json.loads(check), **given)[0] == 0 else None

    try:
        until("it is healthy", healthy)
        # A container engine writes this file; the image's libraries read it.
        (root.path / "etc/hosts").write_text("127.0.0.1 a-name\n")
        code, output = root.run(*entry, "healthcheck", "--url", f"http://a-name:{main}/health/ready", **given)
        assert code == 0, f"a name is not found: {output}"
        process.send_signal(getattr(signal, dockerfile.one(dockerfile.image, "STOPSIGNAL")))
        output, _ = process.communicate(timeout=RUN_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, f"its stop ends with {process.returncode}: {output}"
    code, output = root.run(*json.loads(check), **given)
    assert code == 1 and "not ready" in output, f"it is stopped, and yet: {output}"
    for task in ("list", "verify", "drain"):
        code, output = root.run(*entry, "journal", task, **given)
        assert code == 0, f"journal {task}: {output}"


class PostgresOverTls(threading.Thread):
    """Implements enough of PostgreSQL's protocol to show that a client has accepted its certificate."""

    MESSAGE = "this error was sent over TLS"

    def __init__(self, certificate, key):
        super().__init__(daemon=True)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, key)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            connection.settimeout(RUN_SECONDS)
            try:
                assert connection.recv(8) == struct.pack("!ii", 8, 80877103), "the client does not request TLS"
                connection.sendall(b"S")
                with self.tls.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(4096)
                    fields = {"S": "FATAL", "V": "FATAL", "C": "28P01", "M": self.MESSAGE}
                    body = b"".join(f"{key}{value}".encode() + b"\0" for key, value in fields.items()) + b"\0"
                    secured.sendall(b"E" + struct.pack("!i", len(body) + 4) + body)
            except (OSError, AssertionError):
                connection.close()


def check_certificates(root, folder):
    """The service verifies PostgreSQL by the image's CAs: it connects to a server of one of these CAs, and to no other."""
    made = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
               "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
               "-addext", "basicConstraints=critical,CA:FALSE",
               "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
    assert made.returncode == 0, made.stderr
    server = PostgresOverTls(folder / "cert.pem", folder / "key.pem")
    server.start()
    given = {"RUVVECTOR_STORE": "postgres"}
    given["DATABASE_URL"] = f"postgres://a:b@127.0.0.1:{server.port}/d?sslmode=verify-full"
    code, output = root.run("/usr/bin/ruvvector-service", "migrate", **given)
    assert code == 1 and "certificate" in output and server.MESSAGE not in output, f"an unknown CA: {code}: {output}"
    # A private CA as in the chart's README: a file, and the database's address in parts.
    (root.path / "data/ca.crt").write_text((folder / "cert.pem").read_text())
    parts = {"RUVVECTOR_STORE": "postgres", "POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(server.port)}
    parts |= {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/data/ca.crt"}
    code, output = root.run("/usr/bin/ruvvector-service", "migrate", **parts)
    assert code == 1 and server.MESSAGE in output, f"a private CA: {code}: {output}"
    bundle = root.path / "etc/ssl/certs/ca-certificates.crt"
    bundle.write_text(bundle.read_text() + (folder / "cert.pem").read_text())
    code, output = root.run("/usr/bin/ruvvector-service", "migrate", **given)
    assert code == 1 and server.MESSAGE in output, f"a CA of the image: {code}: {output}"


def main():
    (binary,) = sys.argv[1:]
    binary = Path(binary).absolute()
    dockerfile = Dockerfile((ROOT / "Dockerfile").read_text())
    check_versions(dockerfile)
    files = check_context(dockerfile, binary)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        root = Root(dockerfile, binary, folder)
        check_files(root, binary)
        check_life(dockerfile, root)
        check_certificates(root, folder)
    print(f"Dockerfile: {files} files for the build; its root runs, and verifies")


if __name__ == "__main__":
    main()
