"""Checks the promises of the chart for all manifests, whatever the values."""

import json
import re

import yaml

from tests.common import ROOT

# The variables that name the database.
DATABASE = ("RUVVECTOR_STORE", "DATABASE_URL", "DATABASE_URL_FILE", "RUVVECTOR_DATABASE_READ_URL")
DATABASE += ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB")


def pods(documents):
    for document in documents:
        if document["kind"] == "Pod":
            yield document["spec"]
        elif document["kind"] in ("StatefulSet", "Job"):
            yield document["spec"]["template"]["spec"]


def of(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def check_restricted(pod):
    """A pod meets the profile *restricted* of Kubernetes' Pod Security Standards, and the chart's own stricter rules."""
    assert pod["enableServiceLinks"] is False and pod["automountServiceAccountToken"] is False
    assert not any(pod.get(host) for host in ("hostNetwork", "hostPID", "hostIPC"))
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
    assert context["seccompProfile"]["type"] == "RuntimeDefault"
    allowed = {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}
    for volume in pod.get("volumes", []):
        assert set(volume) - {"name"} <= allowed, volume
    for container in pod["containers"] + pod.get("initContainers", []):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True
        assert own["runAsNonRoot"] is True and own["capabilities"] == {"drop": ["ALL"]}
        assert not own.get("privileged") and own.get("runAsUser", 1) > 0
        assert not any("hostPort" in port for port in container.get("ports", []))
        assert "memory" in container["resources"]["limits"]
        names = [variable["name"] for variable in container["env"]]
        assert len(names) == len(set(names)), f"set twice: {names}"
        assert "RUVVECTOR_STORE" in names


def check_collector(documents, values):
    (collector,) = of(documents, "StatefulSet")
    spec, pod = collector["spec"], collector["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert set(spec["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    assert pod["terminationGracePeriodSeconds"] == 120 and pod["topologySpreadConstraints"]
    check_time_to_stop(pod, container)
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert environment["RUVVECTOR_STORE"] == values["store"]
    assert environment["RUVVECTOR_SHUTDOWN_DELAY"] == "5s" and environment["RUVVECTOR_DATA_DIR"] == "/data"
    volumes = {v["name"] for v in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    probes = {"startupProbe": "ready", "readinessProbe": "ready", "livenessProbe": "live"}
    for probe, path in probes.items():
        assert container[probe]["httpGet"] == {"path": f"/health/{path}", "port": "http"}
    wants_claim = values.get("persistence", {}).get("enabled", True)
    assert bool(spec.get("volumeClaimTemplates")) == wants_claim
    assert ("replicas" in spec) != bool(of(documents, "HorizontalPodAutoscaler"))

    services = of(documents, "Service")
    assert len(services) == 2 and spec["serviceName"] in [s["metadata"]["name"] for s in services]
    ports = {port["name"] for port in container["ports"]}
    for service in services:
        assert service["spec"]["selector"].items() <= labels.items()
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http", "otlp-http", "otlp-grpc"]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for other in of(documents, "PodDisruptionBudget"):
        assert other["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for scaler in of(documents, "HorizontalPodAutoscaler"):
        assert [m["resource"]["name"] for m in scaler["spec"]["metrics"]] == ["cpu"]
        assert scaler["spec"]["behavior"]["scaleDown"]["selectPolicy"] == "Disabled"


def check_time_to_stop(pod, container):
    """A stop ends before Kubernetes kills the pod."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    stop_seconds = 0
    for name in ("RUVVECTOR_SHUTDOWN_DELAY", "RUVVECTOR_SHUTDOWN_GRACE"):
        number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", environment[name]).groups()
        stop_seconds += int(number) * units[unit]
    assert stop_seconds < pod["terminationGracePeriodSeconds"]


def check_jobs(documents, values):
    """A Job writes into the service's database, and a Job that drains a claim is its only user."""
    (collector,) = of(documents, "StatefulSet")
    (service,) = collector["spec"]["template"]["spec"]["containers"]
    theirs = {variable["name"]: variable for variable in service["env"]}
    selector = collector["spec"]["selector"]["matchLabels"].items()
    claims = []
    for job in of(documents, "Job"):
        template, hook = job["spec"]["template"], job["metadata"].get("annotations", {}).get("helm.sh/hook")
        (container,) = template["spec"]["containers"]
        assert template["spec"]["restartPolicy"] == "Never" and job["spec"]["backoffLimit"] <= 6
        assert not selector <= template["metadata"]["labels"].items(), "a selector matches a Job's pod as an instance"
        assert container["image"] == service["image"]
        environment = {variable["name"]: variable for variable in container["env"]}
        for name in DATABASE:
            # A hook has a separate Secret.
            ours, expected = (json.loads(json.dumps(each.get(name)).replace("-migrate", "")) for each in (environment, theirs))
            assert ours == expected, f"{name}: {ours}, not {expected}"
        if container["args"] == ["migrate"]:
            assert hook == "pre-install,pre-upgrade"
            for key in values.get("settings", {}):
                assert f"RUVVECTOR_{key.upper()}" in environment
            continue
        assert container["args"] == ["journal", "drain"] and hook is None and job["spec"]["ttlSecondsAfterFinished"] == 86400
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert environment["RUVVECTOR_DATA_DIR"]["value"] in mounts
        assert environment["RUVVECTOR_CONFIG"]["value"].rsplit("/", 1)[0] in mounts
        claim = mounts["/data"]["persistentVolumeClaim"]["claimName"]
        assert environment["RUVVECTOR_COLLECTOR"]["value"].endswith(f"$(POD_NAMESPACE)/{claim}")
        assert environment.get("RUVVECTOR_AUTO_MIGRATE") == theirs.get("RUVVECTOR_AUTO_MIGRATE")
        claims.append(claim)
    assert claims == values.get("drain", {}).get("claims", [])


def check_network(documents, values):
    """A NetworkPolicy allows the connections that the service needs."""
    (collector,) = of(documents, "StatefulSet")
    (service,) = collector["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable.get("value") for variable in service["env"]}
    for policy in of(documents, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        (expression,) = selector["matchExpressions"]
        for document in documents:
            if document["kind"] not in ("StatefulSet", "Job"):
                continue
            labels = document["spec"]["template"]["metadata"]["labels"]
            assert selector["matchLabels"].items() <= labels.items() and labels[expression["key"]] in expression["values"]
        first, *others = policy["spec"]["ingress"]
        assert {port["port"] for port in first["ports"]} == {port["name"] for port in service["ports"]} - {"debug"}
        (test,) = of(documents, "Pod")
        if peers := first.get("from"):
            wanted = peers[-1]["podSelector"]["matchLabels"].items()
            assert wanted <= test["metadata"]["labels"].items(), "the pod of `helm test` is not allowed"
        scrapers = values["networkPolicy"].get("scrapeFrom", [])
        assert [other["from"] for other in others] == [scrapers] * bool(scrapers)
        if "Egress" not in policy["spec"]["policyTypes"]:
            continue
        dns, database, *_ = policy["spec"]["egress"]
        assert dns == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
        url = re.search(r":(\d+)/", values.get("database", {}).get("url", ""))
        assert database["ports"] == [{"port": int(url[1] if url else environment["POSTGRES_PORT"]), "protocol": "TCP"}]


def check_labels(documents):
    """Kubernetes accepts every label."""
    for document in documents:
        everywhere = [document["metadata"], document.get("spec", {}).get("template", {}).get("metadata", {})]
        everywhere += [claim["metadata"] for claim in document.get("spec", {}).get("volumeClaimTemplates", [])]
        for metadata in everywhere:
            for key, value in (metadata.get("labels") or {}).items():
                assert len(key.rsplit("/", 1)[-1]) <= 63 and len(value) <= 63, f"{key}: {value}"
                assert re.fullmatch(r"([A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?", value), f"{key}: {value}"


def check_secrets(documents, values):
    """Every secret value is in a Secret only."""
    database = values.get("database", {})
    secrets = [database.get(key) for key in ("url", "readUrl", "password")] + values.get("auth", {}).get("tokens", [])
    open_text = json.dumps([document for document in documents if document["kind"] != "Secret"])
    for secret in filter(None, secrets):
        assert secret not in open_text, "a secret value is outside of a Secret"
    named = {document["metadata"]["name"] for document in of(documents, "Secret")}
    theirs = {database.get("existingSecret"), values.get("auth", {}).get("existingSecret")}
    theirs |= {source["secret"] for source in values.get("settingsFrom", {}).values()}
    for pod in pods(documents):
        for variable in pod["containers"][0]["env"]:
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["name"] in named | theirs, reference


def check_outside(documents):
    """Only paths that accept events are reachable from outside."""
    for ingress in of(documents, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            paths = [(path["path"], path["pathType"]) for path in rule["http"]["paths"]]
            assert paths == [("/v1", "Prefix"), ("/ingest", "Exact")], paths
    for route in of(documents, "HTTPRoute"):
        assert route["apiVersion"] == "gateway.networking.k8s.io/v1" and route["spec"]["parentRefs"]
        (rule,) = route["spec"]["rules"]
        paths = [(match["path"]["value"], match["path"]["type"]) for match in rule["matches"]]
        assert paths == [("/v1", "PathPrefix"), ("/ingest", "Exact")], paths
        ports = {s["metadata"]["name"]: s["spec"]["ports"][0]["port"] for s in of(documents, "Service")}
        for backend in rule["backendRefs"]:
            assert ports[backend["name"]] == backend["port"]


def check_observed(documents, values):
    """Prometheus finds each pod once, and rules and dashboards equal those in alerts/ and dashboards/."""
    for monitor in of(documents, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [s for s in of(documents, "Service") if wanted <= s["metadata"]["labels"].items()]
        assert len(found) == 1 and found[0]["spec"]["publishNotReadyAddresses"] is True
        assert found[0]["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "ruvvector-service"
    if values.get("prometheusRule", {}).get("enabled"):
        files = [yaml.safe_load(path.read_text()) or {} for path in sorted((ROOT / "alerts").glob("*.y*ml"))]
        files = [file for file in files if file.get("groups")]
        rendered = [rule["spec"] for rule in of(documents, "PrometheusRule")]
        assert len(files) == len(rendered) and all(file in rendered for file in files), "the rules differ from alerts/"
    if values.get("dashboards", {}).get("enabled"):
        files = [json.loads(path.read_text()) for path in sorted((ROOT / "dashboards").glob("*.json"))]
        maps = [m for m in of(documents, "ConfigMap") if m["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
        rendered = [json.loads(text) for each in maps for text in each["data"].values()]
        assert len(files) == len(rendered) and all(file in rendered for file in files), "the dashboards differ from dashboards/"


def check_promises(documents, values):
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(names) == len(set(names)), f"two manifests have one name: {names}"
    for kind, name in names:
        # 63 for names that become a label or a host name, 253 for all others.
        assert len(name) <= (63 if kind in ("Service", "StatefulSet", "Job", "Pod") else 253), name
    for pod in pods(documents):
        check_restricted(pod)
    assert of(documents, "Pod")[0]["metadata"]["annotations"]["helm.sh/hook"] == "test"
    check_collector(documents, values)
    check_jobs(documents, values)
    check_network(documents, values)
    check_labels(documents)
    check_secrets(documents, values)
    check_outside(documents)
    check_observed(documents, values)
