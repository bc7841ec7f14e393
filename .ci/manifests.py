"""Judges rendered manifests: python3 manifests.py FOLDER README, with helm-NAME and kustomize-NAME in the folder."""

import glob
import json
import os
import sys

import kubernetes_validate
import yaml

# The lowest version of Kubernetes that the chart takes, and the newest whose schemas are known.
VERSIONS = ["1.30", "1.37"]
# Kinds of others, for which Kubernetes has no schema.
FOREIGN = {"SecurityContextConstraints", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
# Never granted, to nobody: what turns a stolen token into more (resource, verb; None is any).
FORBIDDEN = [
    ("secrets", None), ("nodes/proxy", None), ("pods/exec", None), ("pods/attach", None), ("pods/portforward", None),
    ("serviceaccounts/token", None), ("pods", "create"), ("pods", "delete"), ("pods", "patch"), ("pods", "update"),
    ("nodes", "patch"), ("nodes", "update"), ("nodes", "delete"), (None, "impersonate"), (None, "escalate"), (None, "bind"),
    (None, "deletecollection"), (None, "*"), ("*", None),
]
# All that an agent may change.
AGENT_WRITES = {("nodeagents", "create"), ("nodeagents/status", "patch")}
# What viewers of the status page may read.
VIEWED = {("/", "get"), ("/status.json", "get"), ("/state", "get")}
READS = {"get", "list", "watch"}
CAPABILITIES = {"SYS_ADMIN", "NET_ADMIN"}
EXTRA = {"everything": {"NET_RAW", "SYS_PTRACE"}}
# Everything else of the host is mounted read-only.
WRITABLE = {"/var/lib/nameward"}
WRITABLE_EXTRA = {"everything": {"/host/proc/sys/net"}}

problems = []
checked = 0


def check(holds, what):
    global checked
    checked += 1
    if not holds:
        problems.append(what)


def objects(path):
    """By kind, namespace and name, without what only Helm knows."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for one in yaml.safe_load_all(file):
            if not one:
                continue
            meta = one["metadata"]
            notes = meta.get("annotations") or {}
            notes.pop("helm.sh/resource-policy", None)
            if not notes:
                meta.pop("annotations", None)
            key = (one["kind"], meta.get("namespace", ""), meta["name"])
            check(key not in found, f"{path}: {key} twice")
            found[key] = one
    return found


def ordered(value, name=""):
    """Lists whose order means nothing, in one order."""
    if isinstance(value, dict):
        return {key: ordered(item, key) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        items = [ordered(item) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if name in ("env", "volumes") else items
    return value


def first_difference(one, two, at=""):
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted(set(one) | set(two)):
            if one.get(key) != two.get(key):
                return first_difference(one.get(key), two.get(key), f"{at}.{key}")
    return f"{at}: {one!r} and {two!r}"


def same(name, helm, kustomize):
    kustomize = {key: item for key, item in kustomize.items() if key[0] != "Namespace"}
    for key in sorted(set(helm) | set(kustomize)):
        one, two = ordered(helm.get(key)), ordered(kustomize.get(key))
        check(one == two, f"{name}: {key} differs, Helm has and Kustomize has {first_difference(one, two)}")


def valid(where, one):
    for version in VERSIONS:
        if one["kind"] in FOREIGN:
            continue
        try:
            kubernetes_validate.validate(one, version, strict=True)
            check(True, "")
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            check(False, f"{where}: not valid in {version}: {path}: {error.message}")
        except kubernetes_validate.utils.SchemaNotFoundError as error:
            check(False, f"{where}: {error.message}")


def rights(where, one):
    agent = one["metadata"]["name"].startswith("nameward-agent")
    urls = {(url, verb) for rule in one["rules"] for url in rule.get("nonResourceURLs", []) for verb in rule["verbs"]}
    check(urls <= VIEWED, f"{where} grants {sorted(urls - VIEWED)}")
    for rule in one["rules"]:
        for resource in rule.get("resources", []):
            for verb in rule["verbs"]:
                for bad in FORBIDDEN:
                    hit = bad[0] in (None, resource) and bad[1] in (None, verb)
                    check(not hit, f"{where} grants {verb} {resource}")
                if agent:
                    check(verb in READS or (resource, verb) in AGENT_WRITES, f"{where}: an agent may {verb} {resource}")


def agent_pod(where, name, spec, readme):
    everything = name == "everything"
    container = spec["containers"][0]
    context = container["securityContext"]
    added = set(context["capabilities"]["add"])
    check(context["privileged"] is False, f"{where} is privileged")
    check(context["readOnlyRootFilesystem"] is True, f"{where} can write its root")
    check(context["capabilities"]["drop"] == ["ALL"], f"{where} does not drop all capabilities")
    check(added == CAPABILITIES | EXTRA.get(name, set()), f"{where} has {sorted(added)}")
    check(spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", f"{where} has no seccomp profile")
    check(spec["hostNetwork"] is True and spec["dnsPolicy"] == "Default", f"{where}: network")
    check(spec.get("hostPID", False) is everything, f"{where}: hostPID")
    check("hostIPC" not in spec, f"{where}: hostIPC")
    check(spec["tolerations"] == [{"operator": "Exists"}], f"{where} is not on every node")
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    check(set(volumes) == mounts, f"{where}: volumes {sorted(volumes)} and mounts {sorted(mounts)}")
    for mount in container["volumeMounts"]:
        writable = not mount.get("readOnly", False)
        allowed = WRITABLE | WRITABLE_EXTRA.get(name, set())
        check(not writable or mount["mountPath"] in allowed, f"{where}: {mount['mountPath']} is writable")
        check(f"`{mount['name']}`" in readme, f"deploy/README.md does not explain the mount `{mount['name']}`")
    for capability in added:
        check(f"`{capability}`" in readme, f"deploy/README.md does not explain `{capability}`")


def restricted(where, spec, ranged=False):
    """The Pod Security Standard `restricted`; with `ranged` the cluster chooses the user, as OpenShift's restricted-v2 does."""
    context = spec["securityContext"]
    check(context["runAsNonRoot"] is True, f"{where} may run as root")
    if ranged:
        check("runAsUser" not in context and "runAsGroup" not in context, f"{where} has a user of its own, which restricted-v2 refuses")
    else:
        check(context.get("runAsUser", 0) > 0, f"{where} may run as root")
    check(context["seccompProfile"]["type"] == "RuntimeDefault", f"{where} has no seccomp profile")
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        check(name not in spec, f"{where} has {name}")
    check(all("configMap" in volume for volume in spec.get("volumes", [])), f"{where} mounts more than its settings")
    for container in spec["containers"]:
        inner = container["securityContext"]
        check(inner["allowPrivilegeEscalation"] is False, f"{where} may escalate")
        check(inner["readOnlyRootFilesystem"] is True, f"{where} can write its root")
        check(inner["capabilities"] == {"drop": ["ALL"]}, f"{where} has capabilities")


def bindings(where, all_objects):
    """Every role is bound, every binding names a role, every policy is bound."""
    for role, binding in (("Role", "RoleBinding"), ("ClusterRole", "ClusterRoleBinding")):
        have = {key[1:] for key in all_objects if key[0] == role}
        named = {(key[1], one["roleRef"]["name"]) for key, one in all_objects.items() if key[0] == binding}
        check(have == named, f"{where}: {role}s {sorted(have ^ named)} are not bound or not there")
    have = {key[2] for key in all_objects if key[0] == "ValidatingAdmissionPolicy"}
    named = {one["spec"]["policyName"] for key, one in all_objects.items() if key[0] == "ValidatingAdmissionPolicyBinding"}
    check(have == named, f"{where}: policies {sorted(have ^ named)} are not bound or not there")


def main():
    folder, readme = sys.argv[1], open(sys.argv[2], encoding="utf-8").read()
    helm = {os.path.basename(path)[5:]: objects(path) for path in sorted(glob.glob(folder + "/helm-*"))}
    kustomize = {os.path.basename(path)[10:]: objects(path) for path in sorted(glob.glob(folder + "/kustomize-*"))}
    check(set(helm) - set(kustomize) == {"everything"}, f"no overlay for {set(helm) - set(kustomize)}")
    for name, overlay in kustomize.items():
        same(name, helm[name], overlay)
    seen = set()
    for name, found in helm.items():
        bindings(name, found)
        for (kind, space, called), one in found.items():
            where = f"{name}: {kind} {space}/{called}"
            text = yaml.safe_dump(one)
            if text not in seen:
                seen.add(text)
                valid(where, one)
            if kind in ("Role", "ClusterRole"):
                rights(where, one)
            elif kind == "PrometheusRule":
                with open("deploy/prometheus/rules.yaml", encoding="utf-8") as file:
                    check(one["spec"]["groups"] == yaml.safe_load(file)["groups"], f"{where} has other rules than deploy/prometheus")
            elif kind == "DaemonSet":
                agent_pod(where, name, one["spec"]["template"]["spec"], readme)
            elif kind == "Deployment":
                restricted(where, one["spec"]["template"]["spec"], ranged=name in ("openshift", "everything"))
    # What `nameward check --allow-pods` creates; a unit test keeps it as it is.
    with open("actors/outside/src/pods/job.json", encoding="utf-8") as file:
        probe = json.load(file)
    valid("the probe Job", probe)
    pod = probe["spec"]["template"]["spec"]
    restricted("the probe Job", pod)
    check(pod["automountServiceAccountToken"] is False, "the probe Job has a token")
    for problem in problems:
        print(f"manifests: {problem}", file=sys.stderr)
    print(f"manifests: {checked - len(problems)} passed, {len(problems)} failed")
    sys.exit(bool(problems))


main()
