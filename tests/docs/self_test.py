"""Tests the documentation's test: small documents with one error each, which it has to find at that line.

Invariant: each kind of check has a document here that it refuses, beside a correct one that it accepts.
"""

# Fences are written as ~~~ here, and replaced before the run.
SOUND = """\
# Sound

It takes `RUVVECTOR_HANDLING_TIMEOUT` (8 s), `RUVVECTOR_WRITE_CONNECTIONS` (4) and `RUVVECTOR_DUPLICATE_WINDOW` (10 min).
A trap: [a link](README.md), [an anchor](docs/otlp.md#grpc), `RUVVECTOR_DATA_DIR`, `scripts/test.sh`, `journal verify`,
`ruvvector_queue_events`, `ruvvector-service migrate --import-v0`, `sum(rate(ruvvector_queue_events[1m]))`.

<!-- docs: expect /"accepted":1/ -->
~~~sh
order=order-7
curl http://127.0.0.1:3100/ingest?wait=stored -d '{"correlationId":"order-7","integration":"shop","eventType":"order.paid"}'
~~~

<!-- docs: output -->
~~~json
{"accepted":1,…}
~~~

<!-- docs: expect "order-7 | shop" -->
~~~sql
SELECT correlation_id, integration FROM telemetry_events;
~~~

<!-- docs: expect "\\"eventType\\":\\"order.paid\\"" -->
~~~sh
curl "http://127.0.0.1:3100/query?correlationId=$order"
~~~

<!-- docs: fails 22; expect "eventType" -->
~~~sh
curl http://127.0.0.1:3100/ingest -d '{"correlationId":"order-7","integration":"shop"}'
~~~

<!-- docs: expect "ruvvector_write_events_total{" -->
~~~promql
ruvvector_write_events_total
  > 0
~~~

<!-- docs: file=settings.toml -->
~~~toml
service_port = 3100
~~~

<!-- docs: expect "service_port" -->
~~~sh
ruvvector-service validate --config settings.toml
~~~

<!-- docs: needs systemd -->
~~~sh
systemctl start ruvvector-service
~~~

<!-- docs: background; expect "listening" -->
~~~sh
RUVVECTOR_SERVICE_PORT=3199 ruvvector-service --otlp-http-port off --otlp-grpc-port off --data-dir second
~~~

<!-- docs: expect "live" -->
~~~sh
curl http://127.0.0.1:3199/health/live
~~~

<!-- docs: expect "7" -->
~~~python
from opentelemetry.sdk.trace import TracerProvider
print(7 if TracerProvider else 0)
~~~
"""

SOUND_SQLITE = """\
<!-- docs: service sqlite; service RUVVECTOR_AUTH_TOKENS=only-this -->

<!-- docs: fails -->
~~~sh
curl 'http://127.0.0.1:3100/query'
~~~

<!-- docs: expect "true" -->
~~~sh
curl -sS -H 'Authorization: Bearer only-this' 'http://127.0.0.1:3100/ingest?wait=stored' \\
  -d '{"correlationId":"order-8","integration":"shop","eventType":"order.paid"}'
~~~

<!-- docs: expect "order-8|shop" -->
~~~sql
SELECT correlation_id, integration FROM telemetry_events;
~~~
"""

# The error that the test has to report for the line with the arrow; the arrow is removed before the run.
FAULTS = [
    ("a fence without a word", "→~~~\nls\n~~~\n"),
    ("a fence of an unknown kind: shell", "→~~~shell\nls\n~~~\n"),
    ("never closed", "→~~~sh\nls\n"),
    ("set by indenting", "Text.\n\n→    ls\n"),
    ("no such directive: expects", "→<!-- docs: expects \"a\" -->\n~~~sh\nls\n~~~\n"),
    ("a directive that cannot be read", "→<!-- docs: expect \"a -->\n~~~sh\nls\n~~~\n"),
    ("that no fence follows", "→<!-- docs: fails -->\n\n~~~sh\nfalse\n~~~\n"),
    ("known reasons are", "→<!-- docs: needs luck -->\n~~~sh\nls\n~~~\n"),
    ("`expect` on what is not run", "→<!-- docs: expect \"a\" -->\n~~~yaml\na: 1\n~~~\n"),
    ("after one that is run", "→<!-- docs: output -->\n~~~text\na\n~~~\n"),
    ("before the first fence", "~~~text\na\n~~~\n→<!-- docs: service sqlite -->\n"),
    ("the block ended with 3", "→~~~sh\n(exit 3)\n~~~\n"),
    ("the block ended with 1", "→~~~sh\nfalse | cat\n~~~\n"),
    ("line 2 of the block: grep nothing", "→~~~sh\ntrue\ngrep nothing </dev/null\n~~~\n"),
    ("unbound variable", "→~~~sh\necho \"$nothing\"\n~~~\n"),
    ("the 1 blocks after it were not run", "→~~~sh\nfalse\n~~~\n\n~~~sh\ntrue\n~~~\n"),
    ("should end with an error, and ended with 0", "<!-- docs: fails -->\n→~~~sh\ntrue\n~~~\n"),
    ("should end with 2, and ended with 3", "<!-- docs: fails 2 -->\n→~~~sh\n(exit 3)\n~~~\n"),
    ("does not show 'b c'", "<!-- docs: expect \"b c\" -->\n→~~~sh\necho b-c\n~~~\n"),
    ("does not show /^b$/", "<!-- docs: expect /^b$/ -->\n→~~~sh\necho abc\n~~~\n"),
    ("does not print '2'", "~~~sh\nprintf '2\\n1\\n'\n~~~\n\n<!-- docs: output -->\n→~~~text\n1\n2\n~~~\n"),
    ("requested URL returned error: 404", "→~~~sh\ncurl http://127.0.0.1:3100/nowhere\n~~~\n"),
    ("`background` wants an `expect`", "<!-- docs: background -->\n→~~~sh\nsleep 60\n~~~\n"),
    ("does not show 'up'", "<!-- docs: background; expect \"up\" -->\n→~~~sh\necho down\n~~~\n"),
    ("no such lines in a row", "<!-- docs: copy=.dockerignore -->\n→~~~text\nnothing\n~~~\n"),
    ("no file to compare with", "<!-- docs: copy=nothing -->\n→~~~text\nnothing\n~~~\n"),
    ("reaches the machine itself: systemctl", "→~~~sh\nsystemctl --version\n~~~\n"),
    ("reaches the machine itself: /etc/hosts", "→~~~sh\ncat /etc/hosts\n~~~\n"),
    ("syntax error", "<!-- docs: needs systemd -->\n→~~~sh\nif true\n~~~\n"),
    ("column \"nothing\" does not exist", "→~~~sql\nSELECT nothing FROM telemetry_events;\n~~~\n"),
    ("no such column: nowhere", "<!-- docs: service sqlite -->\n\n→~~~sql\nSELECT nowhere FROM telemetry_events;\n~~~\n"),
    ("reader cannot log in", "→~~~sql\nCREATE ROLE reader LOGIN;\n~~~\n"),
    ("visitor cannot SELECT", "→~~~sql\nCREATE ROLE visitor LOGIN; GRANT CONNECT ON DATABASE telemetry TO visitor;\n"
     "CREATE VIEW pg_temp.seen AS SELECT 1; GRANT SELECT ON seen TO visitor;\n~~~\n"),
    ("parse error", "→~~~promql\nsum(ruvvector_queue_events\n~~~\n"),
    ("ruvvector_queue_event is not on the page", "→~~~promql\nsum(up) + ruvvector_queue_event\n~~~\n"),
    ("no ruvvector_receive_events_total has a outcome", "→~~~promql\nruvvector_receive_events_total{outcome=\"lost\"}\n~~~\n"),
    ("parse error", "→Text: `sum(rate(ruvvector_queue_events))[5m]`.\n"),
    ("ZeroDivisionError", "→~~~python\n1 / 0\n~~~\n"),
    ("not python", "<!-- docs: file=a.py -->\n→~~~python\ndef\n~~~\n"),
    ("SyntaxError", "<!-- docs: file=a.js -->\n→~~~javascript\nlet 1\n~~~\n"),
    ("not yaml", "→~~~yaml\na: [1\n~~~\n"),
    ("not json", "→~~~json\n{\"a\": 1,}\n~~~\n"),
    ("not toml", "→~~~toml\na = \n~~~\n"),
    ("srvice_port", "→~~~toml\nsrvice_port = 1\n~~~\n"),
    ("not ini", "→~~~ini\nA = 1\n~~~\n"),
    ("without its semicolon", "→~~~nginx\nserver { listen 80 }\n~~~\n"),
    ("braces do not match", "→~~~conf\nserver { listen 80;\n~~~\n"),
    ("there is no such file", "→[a link](docs/nothing.md)\n"),
    ("there is no such heading", "→[a link](docs/otlp.md#nothing)\n"),
    ("RUVVECTOR_DATA_DIRECTORY is no setting", "→`RUVVECTOR_DATA_DIRECTORY`\n"),
    ("RUVVECTOR_HANDLING_TIMEOUT is 8s by default", "~~~text\na\n~~~\n\n→`RUVVECTOR_HANDLING_TIMEOUT` (9 s)\n"),
    ("ruvvector_queue_event is no metric", "→`ruvvector_queue_event`\n"),
    ("has no --import-v1", "→`ruvvector-service migrate --import-v1`\n"),
    ("has no --import-v1", "→`migrate --import-v1`\n"),
    ("has no check", "→`journal check`\n"),
    ("has no --data-directory", "<!-- docs: needs root -->\n~~~sh\nls\n→DATA=1 ruvvector-service journal list --data-directory x\n~~~\n"),
    ("--nothing is no flag of ours", "→`--nothing`\n"),
    ("scripts/nothing.sh: the project has no such path", "→`scripts/nothing.sh`\n"),
    ("scripts/nothing.sh: the project has no such path", "<!-- docs: needs time -->\n~~~sh\n→scripts/nothing.sh\n~~~\n"),
    ("nothing.rs: the project has no such file", "→`nothing.rs`\n"),
    ("receive/nothing.rs: the project has no such path", "→`receive/nothing.rs`\n"),
]


def hold(tools, check_all):
    """Fails if an error is not found, or if a correct document has one."""
    texts = [SOUND, SOUND_SQLITE, *(text for _, text in FAULTS)]
    plain = [("self_test.md", text.replace("→", "").replace("~~~", "```")) for text in texts]
    (sound, _), (sound_sqlite, _), *found = check_all(plain, tools)
    failures = [f"a sound document: {problem}" for problem in [*sound, *sound_sqlite]]
    for (wanted, text), (problems, _) in zip(FAULTS, found, strict=True):
        line = text[: text.index("→")].count("\n") + 1
        if not any(problem.line == line and wanted in problem.text for problem in problems):
            found_problems = "; ".join(map(str, problems)) or "nothing"
            failures.append(f"not found in line {line}: {wanted!r}; in\n{text}it found: {found_problems}")
    assert not failures, "\n".join(["the documentation's test does not hold:", *failures])
