"""What the chart promises of everything it makes, whatever the values."""

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def pods(documents):
    for document in documents:
        if document["kind"] == "Pod":
            yield document["spec"]
        elif document["kind"] in ("StatefulSet", "Job"):
            yield document["spec"]["template"]["spec"]


def of(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def check_restricted(pod):
    """Kubernetes' Pod Security Standards, profile *restricted*, and what the chart adds to it."""
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
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert environment["RUVVECTOR_STORE"] == values["store"]
    assert environment["RUVVECTOR_DRAIN_DELAY"] == "5s" and environment["RUVVECTOR_DATA_DIR"] == "/data"
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
    for other in of(documents, "NetworkPolicy"):
        assert other["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    for scaler in of(documents, "HorizontalPodAutoscaler"):
        assert [m["resource"]["name"] for m in scaler["spec"]["metrics"]] == ["cpu"]
        assert scaler["spec"]["behavior"]["scaleDown"]["selectPolicy"] == "Disabled"


def check_secrets(documents, values):
    """No secret stands anywhere but in a Secret."""
    database = values.get("database", {})
    secrets = [database.get(key) for key in ("url", "readUrl", "password")] + values.get("auth", {}).get("tokens", [])
    open_text = json.dumps([document for document in documents if document["kind"] != "Secret"])
    for secret in filter(None, secrets):
        assert secret not in open_text, "a secret stands in the open"
    named = {document["metadata"]["name"] for document in of(documents, "Secret")}
    theirs = {database.get("existingSecret"), values.get("auth", {}).get("existingSecret")}
    for pod in pods(documents):
        for variable in pod["containers"][0]["env"]:
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["name"] in named | theirs, reference
    for document in of(documents, "Job"):
        assert document["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def check_outside(documents):
    """Only what takes events can be reached from outside."""
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
    """Prometheus finds each pod once, and rules and dashboards are what stands in alerts/ and dashboards/."""
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
        assert len(files) == len(rendered) and all(file in rendered for file in files), "not those of dashboards/"


def check_promises(documents, values):
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(names) == len(set(names)), f"made twice: {names}"
    for kind, name in names:
        assert len(name) <= 63, name
    for pod in pods(documents):
        check_restricted(pod)
    assert of(documents, "Pod")[0]["metadata"]["annotations"]["helm.sh/hook"] == "test"
    check_collector(documents, values)
    check_secrets(documents, values)
    check_outside(documents)
    check_observed(documents, values)
