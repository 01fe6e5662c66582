"""Checks the Dockerfile without an engine: what it copies is enough to build from, and what it makes runs as it says.

    image.py BINARY

The image's root is laid out by the script that the Dockerfile runs, and everything in it is run in that root, as the image's
user and with the image's variables: there is no shell and no file but what is there.
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
import time
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=DEADLINE_SECONDS, **options)


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
        """What the first stage takes out of the context: pairs of a source and where it goes."""
        for rest in self.all(self.build, "COPY"):
            *sources, target = rest.split()
            for source in sources:
                yield source, target


def pattern(text):
    """A line of .dockerignore as a regular expression for a path or anything under it."""
    parts = re.split(r"(\*\*/?|\*|\?)", text.strip().strip("/"))
    known = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts) + "(/.*)?")


def context():
    """The files that a build sees: those of the project, less what .dockerignore leaves out; its last word counts."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.strip() and not line.startswith("#")]
    rules = [(pattern(line.lstrip("!")), line.startswith("!")) for line in rules]
    for folder, folders, files in os.walk(ROOT):
        if Path(folder) == ROOT:
            # What is built, and fetched, is no part of it.
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
    """Cargo takes it with its lock as it stands, and finds every target that the manifest names: else it builds none."""
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
    """The files of the repository that the compiler read for the library, by what it wrote of them beside the binary."""
    rules = {}
    for file in binary.parent.glob("deps/ruvvector_service-*.d"):
        # The library as such, not as its own tests, which read more.
        if found := re.search(r"^\S*/libruvvector_service-\w+\.rlib: (.+)$", file.read_text(), re.M):
            rules[file.stat().st_mtime] = found[1]
    assert rules, f"{binary.parent}/deps does not say what the library is made of: cargo build"
    base = f"{binary.parents[2]}/"
    files = [file.removeprefix(base) for file in rules[max(rules)].split()]
    assert len(files) > 50 and not any(file.startswith("/") for file in files), files[:3]
    return files


def check_context(dockerfile, binary):
    """From what the Dockerfile copies alone, Cargo finds every target, and the compiler every file it read for the binary."""
    seen = list(context())
    assert not any(path.startswith(("helm/", "docs/", ".git")) for path in seen), "the context has what no build reads"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for source, target in dockerfile.copied():
            taken = [path for path in seen if path == source or path.startswith(f"{source}/")]
            assert taken, f"COPY {source}: it is not there, or .dockerignore leaves it out"
            for path in taken:
                # A directory's content goes into the target; a file keeps its name where that ends in a slash.
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
    """One version everywhere, and the compiler that Cargo.toml asks for."""
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
    """The image's root file system, in which commands are run as the image's user."""

    def __init__(self, dockerfile, binary, folder):
        self.path = folder / "root"
        self.environment = dockerfile.environment()
        self.user = dockerfile.one(dockerfile.image, "USER")
        done = run(ROOT / "scripts/operate/container-root.sh", binary, self.path)
        assert done.returncode == 0, done.stderr
        # The volume: the image's own directory belongs to its user.
        (self.path / "data").mkdir(mode=0o777)
        (self.path / "data").chmod(0o777)
        folder.chmod(0o755)

    def command(self, *arguments):
        if os.getuid() == 0:
            return ["chroot", f"--userspec={self.user}", str(self.path), *arguments]
        return ["unshare", "--map-root-user", "chroot", str(self.path), *arguments]

    def started(self, *arguments, **environment):
        # PATH is chroot's own; the image has none that matters.
        given = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"} | self.environment | environment
        return subprocess.Popen(self.command(*arguments), env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments, **environment):
        process = self.started(*arguments, **environment)
        said, _ = process.communicate(timeout=DEADLINE_SECONDS)
        return process.returncode, said


def check_files(root, binary):
    """The binary, its libraries, names and certificates; no shell, nothing that anybody but root may change, but /tmp."""
    linked = {match for match in re.findall(r"/\S+", run("ldd", binary).stdout) if match.startswith(("/lib", "/usr/lib"))}
    wanted = linked | {"/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/usr/bin/ruvvector-service"}
    wanted |= {"/etc/ssl/certs/ca-certificates.crt"}
    found = {"/" + str(path.relative_to(root.path)) for path in root.path.rglob("*") if not path.is_dir()}
    assert found == wanted, f"too much: {found - wanted}; missing: {wanted - found}"
    for path in root.path.rglob("*"):
        mode = path.stat().st_mode
        assert not mode & 0o022 or path.name in ("tmp", "data"), f"{path} may be changed by others"
        assert not mode & 0o6000, f"{path} gives away rights"
    certificates = (root.path / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert certificates.count("BEGIN CERTIFICATE") > 50, "the public CAs are missing"


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def check_life(dockerfile, root):
    """It wants the store named, starts, is healthy by its own healthcheck, stops by the image's signal, and can be looked at."""
    entry = json.loads(dockerfile.one(dockerfile.image, "ENTRYPOINT"))
    code, said = root.run(*entry)
    assert code == 2 and "RUVVECTOR_STORE" in said and "sqlite" in said, f"a start without a store: {code}: {said}"
    main, http, grpc = free_ports(3)
    given = {"RUVVECTOR_STORE": "sqlite", "RUVVECTOR_SERVICE_PORT": main}
    given |= {"RUVVECTOR_OTLP_HTTP_PORT": http, "RUVVECTOR_OTLP_GRPC_PORT": grpc}
    code, said = root.run(*entry, "validate", **given)
    assert code == 0 and "warning" not in said, said
    check = dockerfile.one(dockerfile.image, "HEALTHCHECK").split(" CMD ", 1)[1]
    process = root.started(*entry, **given)
    try:
        end = time.monotonic() + DEADLINE_SECONDS
        while (code := root.run(*json.loads(check), **given))[0] != 0:
            assert process.poll() is None, f"it does not start: {process.stdout.read()}"
            assert time.monotonic() < end, f"never healthy: {code[1]}"
            time.sleep(0.1)
        # An engine puts this file there; that names are looked up at all is the libraries' part.
        (root.path / "etc/hosts").write_text("127.0.0.1 a-name\n")
        code, said = root.run(*entry, "healthcheck", "--url", f"http://a-name:{main}/health/ready", **given)
        assert code == 0, f"a name is not found: {said}"
        process.send_signal(getattr(signal, dockerfile.one(dockerfile.image, "STOPSIGNAL")))
        said, _ = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, f"its stop ends with {process.returncode}: {said}"
    code, said = root.run(*json.loads(check), **given)
    assert code == 1 and "not ready" in said, f"stopped, and yet: {said}"
    for task in ("list", "verify", "drain"):
        code, said = root.run(*entry, "journal", task, **given)
        assert code == 0, f"log {task}: {said}"


class PostgresOverTls(threading.Thread):
    """Speaks as much of PostgreSQL's protocol as shows that a client has accepted its certificate."""

    SAYS = "this was said over TLS"

    def __init__(self, certificate, key):
        super().__init__(daemon=True)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, key)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            connection.settimeout(DEADLINE_SECONDS)
            try:
                assert connection.recv(8) == struct.pack("!ii", 8, 80877103), "no request for TLS"
                connection.sendall(b"S")
                with self.tls.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(4096)
                    fields = {"S": "FATAL", "V": "FATAL", "C": "28P01", "M": self.SAYS}
                    body = b"".join(f"{key}{value}".encode() + b"\0" for key, value in fields.items()) + b"\0"
                    secured.sendall(b"E" + struct.pack("!i", len(body) + 4) + body)
            except (OSError, AssertionError):
                connection.close()


def check_certificates(root, folder):
    """PostgreSQL is verified against the CAs of the image: a server of a CA that is among them is spoken to, another is not."""
    made = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
               "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
               "-addext", "basicConstraints=critical,CA:FALSE",
               "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
    assert made.returncode == 0, made.stderr
    server = PostgresOverTls(folder / "cert.pem", folder / "key.pem")
    server.start()
    given = {"RUVVECTOR_STORE": "postgres"}
    given["DATABASE_URL"] = f"postgres://a:b@127.0.0.1:{server.port}/d?sslmode=verify-full"
    code, said = root.run("/usr/bin/ruvvector-service", "migrate", **given)
    assert code == 1 and "certificate" in said and server.SAYS not in said, f"an unknown CA: {code}: {said}"
    # A private CA, as the chart's README has it: a file, and the database in parts.
    (root.path / "data/ca.crt").write_text((folder / "cert.pem").read_text())
    parts = {"RUVVECTOR_STORE": "postgres", "POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(server.port)}
    parts |= {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/data/ca.crt"}
    code, said = root.run("/usr/bin/ruvvector-service", "migrate", **parts)
    assert code == 1 and server.SAYS in said, f"a private CA: {code}: {said}"
    bundle = root.path / "etc/ssl/certs/ca-certificates.crt"
    bundle.write_text(bundle.read_text() + (folder / "cert.pem").read_text())
    code, said = root.run("/usr/bin/ruvvector-service", "migrate", **given)
    assert code == 1 and server.SAYS in said, f"a CA of the image: {code}: {said}"


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
