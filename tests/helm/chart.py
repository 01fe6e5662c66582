"""Checks the manifests of the chart, for `scripts/check/chart.sh`, which installs the packages that this module imports.

    python3 -m tests.helm.chart HELM PROMTOOL BINARY

Every values file in ci/ is linted, rendered for each Kubernetes version, validated by that version's schemas and checked by the
promises of the README. BINARY has to accept the rendered settings and environment.
"""

import functools
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kubernetes_validate
import yaml
from kubernetes_validate import utils

from tests.common import ROOT
from tests.common.programs import must, run
from tests.helm.hard import check_hard_cases
from tests.helm.promises import check_promises, pods
from tests.helm.readme import check_readme
from tests.helm.strict import NoDuplicates

CHART = ROOT / "helm/ruvvector-service"
CASES = Path(__file__).with_name("bad-values.yaml")
VERSIONS = ["1.27", "1.30", "1.33", "1.35", "1.37"]
# Kinds that Kubernetes does not define; the promises check them.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
# Caches the schemas, as reading them takes longer than the validation.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)


def render(helm, release, *arguments, chart=CHART, version=VERSIONS[-1]):
    text = must(helm, "template", release, chart, "--namespace", "telemetry", "--kube-version", version, *arguments)
    return [document for document in yaml.load_all(text, NoDuplicates) if document]


def check_kubernetes(documents, version):
    for document in documents:
        if document["kind"] in CUSTOM:
            continue
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise AssertionError(f"{document['kind']} for {version}: {list(error.path)}: {error.message}") from error


def check_values(helm, values):
    must(helm, "lint", "--strict", "--quiet", CHART, "--kube-version", VERSIONS[-1], "--values", values)
    for version in VERSIONS:
        documents = render(helm, "shop", "--values", values, version=version)
        check_kubernetes(documents, version)
    check_promises(documents, yaml.safe_load(values.read_text()))
    return documents


def refusal(helm, case):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(case.get("set", {}), file)
        file.flush()
        values = ("--values", CHART / f"ci/{case['over']}-values.yaml", "--values", file.name)
        has = [f"--api-versions={api}" for api in case.get("cluster", [])]
        done = run(helm, "template", "x", CHART, "--kube-version", VERSIONS[-1], *values, *has)
    output = done.stdout + done.stderr
    assert done.returncode != 0, f"{case} is not refused"
    # Helm's versions write the path of a value with slashes or with dots.
    assert case["says"] in output or case["says"].strip("/").replace("/", ".") in output, f"{case}: {output}"


def check_rules(promtool, documents):
    rules = [document for document in documents if document["kind"] == "PrometheusRule"]
    with tempfile.TemporaryDirectory() as folder:
        for rule in rules:
            path = Path(folder) / f"{rule['metadata']['name']}.yaml"
            path.write_text(yaml.safe_dump(rule["spec"]))
            must(promtool, "check", "rules", "--lint=all", path)
    return len(rules)


def check_package(helm):
    """The package renders as the folder does: Helm follows the links to alerts/ and dashboards/."""
    values = CHART / "ci/everything-values.yaml"
    with tempfile.TemporaryDirectory() as folder:
        must(helm, "package", CHART, "--destination", folder)
        (package,) = Path(folder).glob("*.tgz")
        assert package.stat().st_size < 700_000, "a release with it would not fit into a Secret"
        options = ("--kube-version", VERSIONS[-1], "--values", values)
        assert must(helm, "template", "x", package, *options) == must(helm, "template", "x", CHART, *options)


def check_binary(binary, documents):
    """The service reads the rendered settings and environment of each pod without a warning."""
    config = next(d for d in documents if d["kind"] == "ConfigMap" and "ruvvector.toml" in d["data"])
    for pod in pods(documents):
        (container,) = pod["containers"]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "ruvvector.toml"
            file.write_text(config["data"]["ruvvector.toml"])
            url = "postgres://a:b@c/d"
            given = {"DATABASE_URL": url, "RUVVECTOR_DATABASE_READ_URL": url}
            given["RUVVECTOR_TRACES_HEADERS"] = "authorization=5"
            environment = {e["name"]: e.get("value", given.get(e["name"], "5")) for e in container["env"]}
            if "DATABASE_URL_FILE" in environment:
                (Path(folder) / "url").write_text(url)
                environment["DATABASE_URL_FILE"] = f"{folder}/url"
            if "RUVVECTOR_CONFIG" in environment:
                environment |= {"RUVVECTOR_CONFIG": str(file)}
            environment |= {"RUVVECTOR_DATA_DIR": folder}
            done = run(binary, "validate", env=environment, cwd=folder)
        output = done.stdout + done.stderr
        assert done.returncode == 0 and "warning" not in output.lower(), f"{environment}: {output}"


def main():
    helm, promtool, binary = sys.argv[1:]
    check_readme(CHART)
    json.loads((CHART / "values.schema.json").read_text())
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    cases = yaml.safe_load(CASES.read_text())
    # Helm's processes run in parallel; the checks of their output are quick.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        refused = [pool.submit(refusal, helm, case) for case in cases]
        rendered = dict(zip(files, pool.map(functools.partial(check_values, helm), files)))
        for each in refused:
            each.result()
    rules = sum(check_rules(promtool, documents) for documents in rendered.values())
    check_package(helm)
    hard = check_hard_cases(helm, CHART, functools.partial(render, helm))
    for documents in rendered.values():
        check_binary(binary, documents)
    print(f"{len(files)} files of values for Kubernetes {', '.join(VERSIONS)}; {len(cases)} bad values refused; "
          f"{hard} upgrades; {rules} files of rules")


if __name__ == "__main__":
    main()
