"""deploy/ and the program say the same: commands, options, variables, paths, users."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from support.manifests import (
    BASE,
    COMPOSE,
    DOCKERFILE,
    ENTRYPOINT,
    OWN,
    ROOT,
    TEXTS,
    commands,
    containers,
    documents,
    environments,
    of_kind,
    of_rankline,
    pods,
)
from support.served import Workers, put_copy, small_trained
from typer.main import get_command

from pipeline import __version__
from pipeline.cli.main import app
from pipeline.options.sections import sections
from pipeline.settings import Settings

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
USER = 10001
# Of other programs: the image's own Python, its locale and numba; MLflow's; the servers of compose.yaml.
OTHERS = {
    "CLICKHOUSE_PASSWORD", "CLICKHOUSE_USER", "GIT_PYTHON_REFRESH", "LC_ALL", "MLFLOW_DISABLE_TELEMETRY",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME", "NUMBA_CACHE_DIR", "PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_CACHE_DIR",
    "REDIS_PASSWORD", "REDIS_URL", "RANKLINE_POD",
}  # fmt: skip


@pytest.mark.parametrize(("where", "arguments"), list(commands()))
def test_every_command_and_option_is_there(where: str, arguments: list[str]) -> None:
    words = of_rankline(arguments)
    if not words:
        assert re.search(rf"^{arguments[0]}\)", ENTRYPOINT, re.MULTILINE), "the entry point has no such argument"
        return
    assert words[0] in COMMANDS
    parameters = COMMANDS[words[0]].params
    options = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options
    # As click reads them: values of the right type, arguments where there are some.
    COMMANDS[words[0]].make_context(words[0], list(words[1:]), resilient_parsing=False).close()


def test_the_entry_point_names_what_it_takes() -> None:
    head = ENTRYPOINT.partition("set -eu")[0]
    assert set(re.findall(r"^([a-z-]+)\)", ENTRYPOINT, re.MULTILINE)) == {"serve", *OWN}
    for word in (*OWN, *re.findall(r"\bRANKLINE_(?:KEYS_FILE|LAST_SHIP_SECONDS)\b", ENTRYPOINT)):
        assert word in head
    for command in ("serve", "train", "score"):
        assert command in head
        assert command in COMMANDS


def test_every_variable_is_read_by_somebody() -> None:
    ours = {f"RANKLINE_{name.upper()}" for name in Settings.model_fields}
    ours |= {f"RANKLINE_{name.upper()}" for section in sections().values() for name in section}
    ours |= set(re.findall(r"\$\{?(RANKLINE_\w+)", ENTRYPOINT))
    for parameter in (parameter for command in COMMANDS.values() for parameter in command.params):
        variables = parameter.envvar or ()
        ours |= {variables} if isinstance(variables, str) else set(variables)
    sources = "\n".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py"))
    for where, name in environments():
        known = name in ours or name in OTHERS or (name.startswith("RANKLINE_") and f'"{name}"' in sources)
        assert known, f"{where} sets {name}, which nothing reads"
    assert {name for _, name in environments()} >= {"RANKLINE_WAREHOUSE", "RANKLINE_DRAIN_SECONDS", "NUMBA_CACHE_DIR"}


def test_probes_ask_for_paths_that_everybody_may_ask(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "live", n=1)
    workers.folder.make()
    workers.folder.flip(put_copy(workers.folder, small_trained("popular")))
    workers.look()
    asked = {
        probe["httpGet"]["path"]
        for name, container in containers()
        for kind, probe in container.items()
        if kind.endswith("Probe")
    }
    health = set(re.findall(r"/api/v1/\w+", TEXTS["deploy/image/health.py"]))
    of_router = set(re.findall(r"GET uri (\S+)", TEXTS["deploy/kubernetes/base/haproxy.cfg"]))
    assert asked - {"/-/router"} == {"/ping", "/api/v1/ready"}
    assert health == of_router == {"/api/v1/ready"}
    for path in asked - {"/-/router"}:
        assert workers.get(path).status_code == 200
    assert "path /-/router" in TEXTS["deploy/kubernetes/base/haproxy.cfg"]
    workers.close()


@pytest.mark.parametrize(("name", "pod"), list(pods()))
def test_a_pod_may_do_little(name: str, pod: dict) -> None:
    user = pod["securityContext"]
    assert user["runAsNonRoot"] is True
    assert user["runAsUser"] == user["runAsGroup"] != 0
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    # Else a Service of the name rankline sets RANKLINE_PORT, which the service would take for its own.
    assert pod["enableServiceLinks"] is False
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])
        if container["image"].startswith("rankline:"):
            assert user["runAsUser"] == user["fsGroup"] == USER
            written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
            assert written == {"/var/lib/rankline", "/tmp"}


def test_the_image_runs_as_a_user_who_is_nobody_else() -> None:
    assert f"USER {USER}:{USER}" in DOCKERFILE
    assert f"-o {USER} -g {USER} -m 0700 /var/lib/rankline" in DOCKERFILE
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    for word in ("apt-get", "pip", "gcc", "build-essential"):
        assert word not in last
    assert "HEALTHCHECK" in last
    for name, service in COMPOSE["services"].items():
        if service["image"].startswith("rankline:"):
            assert (service["user"], service["read_only"], service["cap_drop"]) == (f"{USER}:{USER}", True, ["ALL"]), (
                name
            )


def test_a_pod_has_time_to_ship() -> None:
    (config,) = [line for line in TEXTS["deploy/kubernetes/base/rankline.env"].splitlines() if "LAST_SHIP" in line]
    (drain,) = re.findall(r"DRAIN_SECONDS=(\d+)", TEXTS["deploy/kubernetes/base/rankline.env"])
    (serve,) = of_kind("StatefulSet")
    pod = serve["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= int(config.partition("=")[2]) + int(drain) + 60
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1:] == ["before-stop"]
    assert serve["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert serve["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "state"
    (scaler,) = of_kind("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == serve["metadata"]["name"]
    assert [policy["value"] for policy in scaler["spec"]["behavior"]["scaleDown"]["policies"]] == [1]
    assert "replicas" not in serve["spec"], "an apply would undo what the scaler has set"


def test_schedules_are_in_utc_and_one_at_a_time() -> None:
    jobs = of_kind("CronJob")
    assert len(jobs) == 2
    for job in jobs:
        assert job["spec"]["timeZone"] == "Etc/UTC"
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
    for path, text in TEXTS.items():
        if path.endswith(".timer"):
            assert re.search(r"^OnCalendar=.* UTC$", text, re.MULTILINE), path


def test_what_is_named_is_there() -> None:
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    made = {("ConfigMap", generator["name"]) for generator in kustomization["configMapGenerator"]}
    made |= {(document["kind"], document["metadata"]["name"]) for document in documents()}
    files = [
        *kustomization["resources"],
        *(f for g in kustomization["configMapGenerator"] for f in (*g.get("envs", ()), *g.get("files", ()))),
    ]
    assert {path.name for path in BASE.iterdir()} == {*files, "kustomization.yaml"}
    for name, pod in pods():
        wanted = [("ServiceAccount", pod["serviceAccountName"])]
        for volume in pod.get("volumes", ()):
            wanted += [("ConfigMap", volume["configMap"]["name"])] if "configMap" in volume else []
            wanted += [("Secret", volume["secret"]["secretName"])] if "secret" in volume else []
            wanted += (
                [("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])]
                if "persistentVolumeClaim" in volume
                else []
            )
        for container in pod["containers"]:
            for source in container.get("envFrom", ()):
                ((kind, reference),) = source.items()
                wanted.append(
                    (
                        kind.removesuffix("Ref").replace("configMap", "ConfigMap").replace("secret", "Secret"),
                        reference["name"],
                    )
                )
        assert set(wanted) <= made, name
    (headless,) = [document for document in of_kind("Service") if document["spec"].get("clusterIP") == "None"]
    (serve,) = of_kind("StatefulSet")
    assert serve["spec"]["serviceName"] == headless["metadata"]["name"]
    address = f"_http._tcp.{headless['metadata']['name']}.{kustomization['namespace']}.svc.cluster.local"
    assert TEXTS["deploy/kubernetes/base/haproxy.cfg"].count(address) == 2


def test_no_secret_stands_in_a_file() -> None:
    for path, text in TEXTS.items():
        assert not re.search(r"\brk_[a-z0-9-]+_[A-Za-z0-9_-]{43}\b", text), path
        assert "PRIVATE KEY" not in text, path
        for password in re.findall(r"://[^\s:/@]+:([^\s@]+)@", text):
            assert password == "REPLACE-ME" or password.startswith("${"), path
        for value in re.findall(r"^[ #-]*\w*PASSWORD[\"']?[:=] *(.*)$", text, re.MULTILINE):
            assert value in ("", "REPLACE-ME") or value.startswith(("$", '"$')), (path, value)
    assert "/deploy/.env\n" in (ROOT / ".gitignore").read_text()


def test_versions_are_pinned() -> None:
    images = {container["image"] for _, container in containers()}
    images |= {service["image"] for service in COMPOSE["services"].values()}
    images |= set(re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE))
    for image in images:
        assert re.search(r":\d+\.\d+[\w.-]*$", image), image
    assert f"rankline:{__version__}" in images
    (router,) = (image for image in images if image.startswith("haproxy:"))
    version = [int(part) for part in router.removeprefix("haproxy:").partition("-")[0].split(".")]
    assert version >= [3, 2, 6], "CVE-2025-11230: json_query of an older one can be kept busy"
    assert f"newTag: {__version__}\n" in TEXTS["deploy/kubernetes/base/kustomization.yaml"]
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${BASE}"}
    installs = re.findall(r"pip[^&\n]* install[^&]*", DOCKERFILE)
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or "--no-index" in line, line
    wanted = re.findall(r"^([\w-]+)==([\w.]+)", TEXTS["deploy/check.in"], re.MULTILINE)
    assert len(wanted) == 5
    for name, version in wanted:
        assert f"\n{name}=={version} \\\n    --hash=sha256:" in "\n" + TEXTS["deploy/check.txt"]


def test_the_page_names_commands_that_there_are() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    for word in re.findall(r"(?:(?<!-n )\brankline |rankline:[\d.]+ )([a-z][a-z-]+)\b(?=[ `\n])", page):
        assert word in COMMANDS or word in OWN, word
    for path in re.findall(r"\bdeploy/[\w./-]+\w(?![\w./*-])", page):
        assert (ROOT / path).exists() or path == "deploy/.env", path
