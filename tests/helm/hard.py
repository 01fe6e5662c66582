"""Checks cases that break charts: upgrades from one set of values to another, long names, and several releases."""

import copy
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from tests.common.programs import must
from tests.helm.promises import check_promises, of

# Fields of a StatefulSet's spec that Kubernetes lets change. It refuses others: "updates to statefulset spec for fields other than".
CHANGEABLE = {"replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "minReadySeconds"}
CHANGEABLE |= {"persistentVolumeClaimRetentionPolicy"}
# Other values than the default, where ci/everything-values.yaml sets none or the same as the base.
MORE = {
    "replicas": 3, "image": {"repository": "registry.example.com/other", "tag": "9"}, "auth": {"tokens": ["a-token"]},
    "settings": {"journal_max_bytes": "1GiB"}, "settingsFrom": {"query_limit_max": {"secret": "a", "key": "b"}},
    "cluster": "west", "shutdownDelay": "9s", "shutdownGrace": "60s", "terminationGracePeriodSeconds": 100,
    "serviceAccount": {"create": False}, "resources": {"requests": {"cpu": "1"}}, "podSecurityContext": {"fsGroup": 5},
    "securityContext": {"runAsUser": 5}, "probes": {"startup": {"failureThreshold": 5}},
    "podDisruptionBudget": {"enabled": False}, "drain": {"claims": ["old"]}, "topologySpreadConstraints": [],
    "runtimeClassName": "gvisor", "updateStrategy": {"type": "OnDelete"}, "minReadySeconds": 5, "revisionHistoryLimit": 3,
    "extraContainers": [{"name": "a", "image": "b"}], "extraInitContainers": [{"name": "a", "image": "b"}],
    "database": {"host": "other", "port": 6432}, "service": {"type": "NodePort"},
}
# Values of persistence, some of which are fixed; its retention policy has one valid value.
PERSISTENCE = {
    "enabled": False, "size": "20Gi", "storageClass": "fast", "accessModes": ["ReadWriteOncePod"],
    "annotations": {"a": "b"}, "labels": {"a": "b"}, "existingClaim": "mine",
}
NEVER_CHANGED = {"persistence", "store"}


def fixed(documents):
    """Returns the name and the fields that cannot change during the life of a StatefulSet."""
    (collector,) = of(documents, "StatefulSet")
    spec = {key: value for key, value in collector["spec"].items() if key not in CHANGEABLE}
    return collector["metadata"]["name"], spec


def changes(chart):
    """Yields each value of the chart with another than its default."""
    everything = yaml.safe_load((chart / "ci/everything-values.yaml").read_text())
    for key in yaml.safe_load((chart / "values.yaml").read_text()):
        if key in NEVER_CHANGED:
            continue
        assert key in MORE or key in everything, f"hard.py: no other value of {key} is known"
        yield key, {key: MORE.get(key, everything.get(key))}
    for key, value in PERSISTENCE.items():
        yield f"persistence.{key}", {"persistence": {key: value}}


def check_upgrades(chart, rendered):
    """The README names exactly the values that no upgrade may change."""
    readme = (chart / "README.md").read_text()
    (listed,) = re.findall(r"<!-- fixed values -->(.*?)<!-- end -->", readme, re.S)
    base = {"store": "postgres", "database": {"host": "postgres"}}

    def changed(values):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            merged = copy.deepcopy(base)
            for key, value in values.items():
                merged[key] = merged[key] | value if isinstance(merged.get(key), dict) else value
            yaml.safe_dump(merged, file)
            file.flush()
            return rendered("shop", "--values", file.name)

    before, every = changed({}), dict(changes(chart))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        after = dict(zip(every, pool.map(changed, every.values())))
    for key, documents in after.items():
        assert documents != before or key == "nameOverride", f"{key} does nothing"
    found = {key for key, documents in after.items() if fixed(documents) != fixed(before)}
    assert found == set(re.findall(r"`([\w.]+)`", listed)), f"README.md: fixed are {sorted(found)}"
    return len(every)


def check_version(helm, chart, rendered):
    """Another version of chart or service changes no fixed field; another version of the chart alone restarts no pod."""
    values = ("--values", chart / "ci/drain-values.yaml")
    before = rendered("shop", *values)
    with tempfile.TemporaryDirectory() as folder:
        for options in (("--version", "7.7.7"), ("--version", "7.7.7", "--app-version", "8.8.8")):
            must(helm, "package", chart, "--destination", folder, *options)
            after = rendered("shop", *values, chart=Path(folder) / "ruvvector-service-7.7.7.tgz")
            assert fixed(after) == fixed(before)
            same = [of(each, "StatefulSet")[0]["spec"]["template"] for each in (before, after)]
            assert (same[0] == same[1]) == (len(options) == 2)
            # Kubernetes cannot change a Job, so it stays equal or has another name.
            jobs = [{j["metadata"]["name"]: j["spec"] for j in of(each, "Job")} for each in (before, after)]
            common = jobs[0].keys() & jobs[1].keys()
            assert all(jobs[0][name] == jobs[1][name] for name in common)
            assert len(common) == (3 if len(options) == 2 else 0)


def check_names(rendered, chart):
    """The longest names fit with their suffixes, and stay different."""
    long = "a-release-of-the-longest-name-that-helm-lets-one-have"
    assert len(long) == 53
    everything = chart / "ci/everything-values.yaml"
    claims = ("--set", "drain.claims={one-of-another,data-a-9}")
    releases = [
        rendered(long, "--values", everything, "--set", "fullnameOverride=", *claims),
        rendered(long, "--values", everything, "--set", f"fullnameOverride={long}-and-then-some", *claims),
        rendered("shop", "--values", everything, "--set", "nameOverride=" + "n" * 63, *claims, "--set", "fullnameOverride="),
    ]
    for documents in releases:
        values = yaml.safe_load(everything.read_text()) | {"drain": {"claims": ["one-of-another", "data-a-9"]}}
        check_promises(documents, values)
        (collector,) = of(documents, "StatefulSet")
        # Kubernetes writes the name, followed by the template's hash or the pod's number, into a label.
        assert len(collector["metadata"]["name"]) + len("-0123456789") <= 63


def check_neighbours(rendered, chart):
    """Two releases in one namespace share nothing, and a release named like a setting adds no variables to its pods."""
    values = ("--values", chart / "ci/drain-values.yaml")
    one, other = rendered("one", *values), rendered("ruvvector-service", *values)
    names = [{(d["kind"], d["metadata"]["name"]) for d in documents} for documents in (one, other)]
    assert not names[0] & names[1], names[0] & names[1]
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "StatefulSet"):
        for document in of(one, kind):
            selector = document["spec"].get("podSelector") or document["spec"]["selector"]
            selector = selector.get("matchLabels", selector)
            (neighbour,) = of(other, "StatefulSet")
            assert not selector.items() <= neighbour["spec"]["template"]["metadata"]["labels"].items(), document["metadata"]
    assert ("Service", "ruvvector-service") in names[1]
    assert of(other, "StatefulSet")[0]["spec"]["template"]["spec"]["enableServiceLinks"] is False
    assert rendered("one", *values) == one, "the output is random"


def check_nothing_asked(chart):
    """The manifests depend on the values alone, so that Argo CD and Flux never see a change without a cause."""
    asking = r"\b(lookup|rand\w+|gen\w+Key|genCA\w*|genSelf\w+|genSigned\w+|uuidv4|now|Release\.Revision|IsUpgrade)\b"
    for file in (chart / "templates").rglob("*.*"):
        text = re.sub(r"\{\{-? */\*.*?\*/ *-?\}\}", "", file.read_text(), flags=re.S)
        asked = re.findall(asking, " ".join(re.findall(r"\{\{.*?\}\}", text, re.S)))
        assert not asked, f"{file.name}: {asked}"


def check_ports(rendered):
    """The NetworkPolicy allows egress to the port of the URL."""
    ports = {
        "postgres://u:p@h:6432/d": 6432, "postgres://u:1234@h/d?x=1": 5432, "postgres://h:6432": 6432,
        "postgres://u:p@[fd00::5]:6432/d": 6432, "postgresql://u:p@[fd00::5]/d": 5432, "postgres://h?a=b:7": 5432,
    }
    on = ("--set", "store=postgres,networkPolicy.enabled=true,networkPolicy.egress.enabled=true")
    for url, port in ports.items():
        (policy,) = of(rendered("shop", *on, "--set-json", f'database.url="{url}"'), "NetworkPolicy")
        assert policy["spec"]["egress"][1]["ports"] == [{"port": port, "protocol": "TCP"}], url
    documents = rendered("shop", *on, "--set", "database.host=h,database.port=6432,networkPolicy.egress.databasePort=7")
    assert of(documents, "NetworkPolicy")[0]["spec"]["egress"][1]["ports"][0]["port"] == 7


def check_few(rendered, chart):
    """Checks single cases: no replicas, an emptyDir that the journal cannot outgrow, and the APIs of some clusters."""
    none = rendered("shop", "--values", chart / "ci/sqlite-values.yaml", "--set", "replicas=0")
    assert of(none, "StatefulSet")[0]["spec"]["replicas"] == 0
    for size, budget in (("10Gi", "4096MiB"), ("2Gi", "1638MiB"), ("1.5G", "1144MiB")):
        documents = rendered("shop", "--values", chart / "ci/no-volume-values.yaml", "--set", f"persistence.size={size}")
        pod = of(documents, "StatefulSet")[0]["spec"]["template"]["spec"]
        (data,) = [volume for volume in pod["volumes"] if volume["name"] == "data"]
        variables = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
        assert data["emptyDir"]["sizeLimit"] == size and variables["RUVVECTOR_JOURNAL_MAX_BYTES"] == budget, variables
    apis = ["apiregistration.k8s.io/v1", "gateway.networking.k8s.io/v1/HTTPRoute"]
    apis += [f"monitoring.coreos.com/v1/{kind}" for kind in ("ServiceMonitor", "PrometheusRule")]
    flags = [f"--api-versions={api}" for api in apis]
    assert of(rendered("shop", "--values", chart / "ci/everything-values.yaml", *flags), "ServiceMonitor")
    # OpenShift refuses users and groups that it has not assigned.
    none = [f"podSecurityContext.{key}=null" for key in ("runAsUser", "runAsGroup", "fsGroup")]
    documents = rendered("shop", "--values", chart / "ci/sqlite-values.yaml", "--set", ",".join(none))
    pod = of(documents, "StatefulSet")[0]["spec"]["template"]["spec"]
    left = {"runAsNonRoot": True, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["securityContext"] == left and "runAsUser" not in pod["containers"][0]["securityContext"]
    # The autoscaler sets the number of replicas. A claim above its maximum has no pod.
    documents = rendered("shop", "--values", chart / "ci/everything-values.yaml", "--set", "drain.claims={data-collector-4}")
    assert len([job for job in of(documents, "Job") if "-drain-4-" in job["metadata"]["name"]]) == 1
    # Without claims of their own, instances leave all old claims to be drained.
    orphan = ("--set-json", 'drain.claims=["data-shop-ruvvector-service-0"]')
    documents = rendered("shop", "--values", chart / "ci/no-volume-values.yaml", *orphan)
    assert len(of(documents, "Job")) == 1
    documents = rendered("shop", "--values", chart / "ci/drain-values.yaml", "--set-json", "drain.claims=[]")
    assert not of(documents, "Job")


def check_hard_cases(helm, chart, rendered):
    """Runs all checks; returns the number of changed values."""
    check_nothing_asked(chart)
    check_names(rendered, chart)
    check_neighbours(rendered, chart)
    check_ports(rendered)
    check_few(rendered, chart)
    check_version(helm, chart, rendered)
    return check_upgrades(chart, rendered)
