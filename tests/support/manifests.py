"""What is in deploy/, as values: the documents, the pods in them, and every command of ours that they run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted(DEPLOY.rglob("*"))
    if path.is_file() and path.name != ".env" and "__pycache__" not in path.parts
}
COMPOSE: dict[str, Any] = yaml.safe_load(TEXTS["deploy/compose.yaml"])
DOCKERFILE = TEXTS["deploy/Dockerfile"]
ENTRYPOINT = TEXTS["deploy/image/entrypoint.sh"]
# What the entry point takes besides commands of rankline.
OWN = ("before-stop", "schedule", "mlflow")


@cache
def documents() -> list[dict[str, Any]]:
    """The Kubernetes objects of the base, and those of the example of secrets."""
    paths = [path for path in sorted(BASE.glob("*.yaml")) if path.name != "kustomization.yaml"]
    texts = [path.read_text() for path in (*paths, DEPLOY / "kubernetes" / "secrets.example.yaml")]
    return [document for text in texts for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def of_kind(kind: str) -> list[dict[str, Any]]:
    """The objects of a kind in the base."""
    return [document for document in documents() if document["kind"] == kind]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name → spec of every pod that the base makes."""
    for document in documents():
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield document["metadata"]["name"], spec["template"]["spec"]


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of the object → each container of its pod."""
    for name, spec in pods():
        for container in spec["containers"]:
            yield name, container


def words_of(command: Any) -> list[str]:
    return command.split() if isinstance(command, str) else [str(word) for word in command or ()]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Where → the arguments of the entry point, or of `rankline`: all that deploy/ runs of ours."""
    for name, container in containers():
        if container["image"].startswith("rankline:"):
            yield f"kubernetes {name}", words_of(container["args"])
            for hook in container.get("lifecycle", {}).values():
                yield f"kubernetes {name}", words_of(hook["exec"]["command"][1:])
    for name, service in COMPOSE["services"].items():
        if service["image"].startswith("rankline:"):
            yield f"compose {name}", words_of(service["command"])
    for path, text in TEXTS.items():
        for line in re.findall(r"^Exec\w+=-?/opt/rankline/bin/rankline (.+)$", text, re.MULTILINE):
            yield path, line.split()
    (default,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    yield "Dockerfile", json.loads(default)


def of_rankline(arguments: list[str]) -> list[str]:
    """The command of rankline in the arguments of the entry point; [] for none."""
    if arguments[0] == "schedule":
        return arguments[3:]
    return [] if arguments[0] in OWN else arguments


def environments() -> Iterator[tuple[str, str]]:
    """Where → the name of every variable that deploy/ sets, also where it stands in a comment as an offer."""
    name = r"[A-Z][A-Z0-9]*_[A-Z0-9_]+"
    for path, text in TEXTS.items():
        if path.endswith((".env", "/environment.example", "compose.env.example")):
            found = re.findall(rf"^({name})=", text, re.MULTILINE)
        elif path.endswith(".service"):
            found = re.findall(rf"^Environment=({name})=", text, re.MULTILINE)
        elif path.endswith((".yaml", ".example")):
            found = re.findall(rf"(?:^|[\s#-]+)({name})[:=]", text, re.MULTILINE)
        elif path.endswith("Dockerfile"):
            found = re.findall(rf"^(?:ENV|   ) ({name})=", text, re.MULTILINE)
        else:
            continue
        for variable in found:
            yield path, variable
