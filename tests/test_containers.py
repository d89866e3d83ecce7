"""What runs a server in a container names what exists, and the tools of its kind find no fault.

The image is built and run by the workflow of CI, which has a Docker daemon. Here its parts
are tried: the context, the settings, the probes and the check of health, on real servers.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.utils import canonicalize_name

import packages
import tools
from doubles.authority import Authority
from server import http_client
from server.serve_process import ServeProcess, complaint
from tickcell.server.commands import serve
from tickcell.server.config import Config

PROJECT = Path(__file__).resolve().parents[1]
DOCKERFILE = PROJECT / "deploy" / "docker" / "Dockerfile"
COMPOSE = PROJECT / "deploy" / "docker" / "compose.yaml"
MANIFESTS = sorted((PROJECT / "deploy" / "kubernetes").glob("*.yaml"))
BUILD = PROJECT / ".ci" / "image"
# What the last calls, the engine and gRPC may take beyond the grace.
LAST_S = 3
# The oldest and the newest release of Kubernetes whose schemas the validator has.
RELEASES = ("1.25", "1.37")

Settings = dict[str, str]


def joined(dockerfile: Path) -> str:
    """Returns a Dockerfile without comments, one instruction a line."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.M)
    return re.sub(r"\\\n\s*", "", text)


def image_settings() -> Settings:
    (instruction,) = re.findall(r"^ENV (.*)$", joined(DOCKERFILE), re.M)
    return dict(word.split("=", 1) for word in instruction.split() if word.startswith("TICKCELL_"))


def compose() -> Any:
    """Returns the one service of the compose file."""
    (service,) = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"].values()
    return service


def resources(kind: str) -> dict[str, Any]:
    """Returns all of a kind in the manifests, by name."""
    found = [each for path in MANIFESTS for each in yaml.safe_load_all(path.read_text("utf-8"))]
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def pod() -> Any:
    """Returns the specification of the pods."""
    return resources("StatefulSet")["tickcell"]["spec"]["template"]["spec"]


def container() -> Any:
    (found,) = pod()["containers"]
    return found


def cluster_settings() -> Settings:
    return dict(resources("ConfigMap")["tickcell"]["data"])


def contents(wheel: Path) -> dict[str, int]:
    """Returns the checksum of each file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {each.filename: each.CRC for each in archive.infolist()}


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def here(settings: Settings, directory: Path) -> Settings:
    """Returns settings with free ports, and with store and certificates below a directory."""
    moved = {**settings, "TICKCELL_STORE": str(directory / "store")}
    for name in ("TICKCELL_LISTEN", "TICKCELL_METRICS"):
        moved[name] = f"{settings[name].rpartition(':')[0]}:0"
    if "TICKCELL_TLS_KEY" in moved:
        certificate, key = directory / "tls.crt", directory / "tls.key"
        Authority().server().write(certificate, key)
        moved |= {"TICKCELL_TLS_CERTIFICATE": str(certificate), "TICKCELL_TLS_KEY": str(key)}
    return moved


def in_plain_text(settings: Settings) -> Settings:
    """Returns the settings as the manifest says they are where a mesh encrypts."""
    kept = {name: each for name, each in settings.items() if not name.startswith("TICKCELL_TLS_")}
    return {**kept, "TICKCELL_INSECURE": "true"}


EVERY_SETTINGS = {
    "image": image_settings(),
    "compose": {**image_settings(), **compose()["environment"]},
    "kubernetes": cluster_settings(),
    "kubernetes in plain text": in_plain_text(cluster_settings()),
}


@pytest.mark.parametrize("settings", EVERY_SETTINGS.values(), ids=EVERY_SETTINGS)
def test_settings_are_those_of_the_command(settings: Settings) -> None:
    assert {*settings} <= {parameter.envvar for parameter in serve.params}


@pytest.mark.parametrize("place", [place for place in EVERY_SETTINGS if place != "image"])
def test_server_serves_with_the_settings_and_its_probes_answer(place: str, tmp_path: Path) -> None:
    probes = [each["httpGet"]["path"] for name, each in container().items() if "Probe" in name]
    with ServeProcess(**here(EVERY_SETTINGS[place], tmp_path)) as server:
        answers = {path: http_client.fetch(server.watched, path).status for path in probes}
        assert answers == {"/livez": 200, "/readyz": 200}
        status, log = server.end()
    assert status == 0, log


class TestImage:
    def test_hadolint_finds_no_fault_in_it(self) -> None:
        tools.developed("hadolint", str(DOCKERFILE))

    def test_context_is_all_that_the_wheel_needs(self, wheel: Path, tmp_path: Path) -> None:
        ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8")
        everything, *lines = [line for line in ignore.splitlines() if not line.startswith("#")]
        assert everything == "*"
        assert lines.pop() == "**/__pycache__"
        for name in (line.removeprefix("!") for line in lines):
            source, target = PROJECT / name, tmp_path / "context" / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(source, target)
        # It has no tests, no history and no environment.
        assert {f"!{path.name}" for path in (tmp_path / "context").iterdir()} == {*lines}
        assert (tmp_path / "context" / "constraints.txt").is_file()
        built = packages.build(tmp_path / "context", tmp_path / "dist", "wheel")
        assert contents(built) == contents(wheel)

    def test_it_has_the_server_and_no_tensorflow(self) -> None:
        (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", joined(DOCKERFILE), re.M)
        distribution = importlib.metadata.distribution("tickcell")
        needed = packages.closure(distribution, {"", *extras.split(",")})
        names = {canonicalize_name(each.metadata["Name"]) for each in needed}
        assert {"ai-edge-litert", "apsw", "grpcio"} <= names
        assert not names & {"tensorflow", "keras"}

    def test_plain_text_is_refused_until_it_is_asked_for(self, tmp_path: Path) -> None:
        assert "--insecure" in complaint(prefix=(), **here(image_settings(), tmp_path))

    def test_its_ports_are_the_servers(self) -> None:
        (exposed,) = re.findall(r"^EXPOSE (.*)$", joined(DOCKERFILE), re.M)
        settings = image_settings()
        ports = [port(settings["TICKCELL_LISTEN"]), port(settings["TICKCELL_METRICS"])]
        assert [*map(int, exposed.split())] == ports

    def test_check_of_health_tells_a_server_from_none(self, tmp_path: Path) -> None:
        (checked,) = re.findall(r"^HEALTHCHECK .*? CMD (\[.*\])$", joined(DOCKERFILE), re.M)
        python, *arguments = json.loads(checked)
        assert python == "python"
        address = f"127.0.0.1:{port(image_settings()['TICKCELL_METRICS'])}/"
        assert address in arguments[-1]
        settings = here(EVERY_SETTINGS["compose"], tmp_path)
        with ServeProcess(**settings) as server:
            arguments[-1] = arguments[-1].replace(address, f"127.0.0.1:{port(server.watched)}/")
            command = [sys.executable, *arguments]
            assert subprocess.run(command, timeout=60).returncode == 0
            server.end()
        gone = subprocess.run(command, timeout=60, capture_output=True, text=True)
        # 1 is the one status of a container that is not healthy.
        assert gone.returncode == 1
        assert "Connection refused" in gone.stderr


class TestCompose:
    def test_schema_finds_no_fault_in_it(self) -> None:
        tools.developed("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE))

    def test_plain_text_stays_on_this_machine(self) -> None:
        settings = EVERY_SETTINGS["compose"]
        assert settings["TICKCELL_INSECURE"] == "true"
        assert compose()["ports"] == [
            f"127.0.0.1:{number}:{number}"
            for number in (port(settings["TICKCELL_LISTEN"]), port(settings["TICKCELL_METRICS"]))
        ]

    def test_store_is_a_volume(self) -> None:
        assert compose()["volumes"] == [f"store:{EVERY_SETTINGS['compose']['TICKCELL_STORE']}"]

    def test_it_waits_for_longer_than_a_drain_takes(self) -> None:
        waits_s = int(compose()["stop_grace_period"].removesuffix("s"))
        assert waits_s > Config(durability="none").grace_s + LAST_S

    def test_it_builds_the_image(self) -> None:
        build = compose()["build"]
        context = (COMPOSE.parent / build["context"]).resolve()
        assert (context, context / build["dockerfile"]) == (PROJECT, DOCKERFILE)


class TestKubernetes:
    @pytest.mark.parametrize("release", RELEASES)
    def test_validator_finds_no_fault_in_it(self, release: str) -> None:
        names = [str(path) for path in MANIFESTS]
        tools.developed("kubernetes-validate", "--strict", "-k", release, *names)

    def test_validator_finds_a_misspelt_field(self, tmp_path: Path) -> None:
        for path in MANIFESTS:
            text = path.read_text(encoding="utf-8")
            (tmp_path / path.name).write_text(text.replace("storageClassName", "storageClass"))
            with pytest.raises(AssertionError, match="storageClass"):
                tools.developed("kubernetes-validate", "--strict", str(tmp_path / path.name))

    def test_nothing_hangs_the_drain_of_a_node(self) -> None:
        assert not resources("PodDisruptionBudget")

    def test_one_pod_has_one_store(self) -> None:
        stateful = resources("StatefulSet")["tickcell"]["spec"]
        assert stateful["replicas"] == 1
        (claim,) = stateful["volumeClaimTemplates"]
        assert claim["spec"]["storageClassName"] in resources("StorageClass")
        (volume,) = resources("PersistentVolume").values()
        assert volume["spec"]["storageClassName"] == claim["spec"]["storageClassName"]
        assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"]
        asked = claim["spec"]["resources"]["requests"]["storage"]
        assert volume["spec"]["capacity"]["storage"] == asked

    def test_what_is_mounted_is_there_and_where_the_settings_say(self) -> None:
        (claim,) = resources("StatefulSet")["tickcell"]["spec"]["volumeClaimTemplates"]
        places = {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}
        volumes = {each["name"] for each in pod()["volumes"]}
        assert {*places} == {claim["metadata"]["name"], *volumes}
        settings = cluster_settings()
        assert settings["TICKCELL_STORE"] == places["store"]
        for name, file in (("CERTIFICATE", "tls.crt"), ("KEY", "tls.key")):
            # As a secret of the type kubernetes.io/tls names them.
            assert settings[f"TICKCELL_TLS_{name}"] == f"{places['tls']}/{file}"

    def test_ports_and_selectors_lead_to_the_pod(self) -> None:
        stateful, settings = resources("StatefulSet")["tickcell"]["spec"], cluster_settings()
        ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
        assert ports == {
            "grpc": port(settings["TICKCELL_LISTEN"]),
            "metrics": port(settings["TICKCELL_METRICS"]),
        }
        probes = [each for name, each in container().items() if "Probe" in name]
        assert {each["httpGet"]["port"] for each in probes} == {"metrics"}
        labels = stateful["template"]["metadata"]["labels"]
        services = resources("Service")
        assert stateful["serviceName"] in services
        assert services[stateful["serviceName"]]["spec"]["clusterIP"] == "None"
        for service in services.values():
            assert service["spec"]["selector"] == labels == stateful["selector"]["matchLabels"]
            for each in service["spec"]["ports"]:
                assert each["port"] == ports[each["targetPort"]]

    def test_it_waits_for_longer_than_a_drain_takes(self) -> None:
        grace_s = float(cluster_settings()["TICKCELL_GRACE"])
        assert pod()["terminationGracePeriodSeconds"] > grace_s + LAST_S

    def test_it_may_do_no_more_than_it_must(self) -> None:
        (user,) = re.findall(r"^USER (\d+):\1$", joined(DOCKERFILE), re.M)
        context = pod()["securityContext"]
        assert context["runAsNonRoot"] is True
        assert {context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {int(user)}
        assert container()["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    def test_variables_of_services_are_no_settings(self) -> None:
        assert pod()["enableServiceLinks"] is False

    def test_image_is_of_this_version(self) -> None:
        version = importlib.metadata.version("tickcell")
        assert container()["image"] == f"tickcell:{version}"
