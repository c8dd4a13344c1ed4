"""The other files of deploy/: configuration, units and manifest name what exists, and are taken."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from capability.sidecar.addresses import Inherited, parse_address
from tests.proxies.proxies import DEPLOY
from tests.servers import missing
from tests.sidecar.processes import ROOT as PROJECT
from tests.sidecar.processes import sidecar
from tests.sidecar.tokens import ROOT, mint

MANIFEST: Final = DEPLOY / "kubernetes.yaml"


def serve_check(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Returns what `cap serve --check` says of the arguments and of the cap.toml in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAP_")}
    done = subprocess.run(
        [sys.executable, "-m", "capability.cli", "serve", *arguments, "--check", "--json"],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(PROJECT), "HOME": str(folder), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def listeners(said: Mapping[str, Any]) -> dict[str, str]:
    return {each["serves"]: each["address"] for each in said["listen"]}


def test_the_example_configuration_is_taken(tmp_path: Path) -> None:
    for name in ("cap.toml", "policy.datalog"):
        shutil.copy(DEPLOY / name, tmp_path)
    (tmp_path / "root.key.pub").write_text(repr(ROOT.public_key))
    said = serve_check(tmp_path)
    assert listeners(said) == {"check": "unix:/run/cap/cap.sock", "admin": "tcp:127.0.0.1:9901"}
    assert [route["policy"] for route in said["routes"]] == [str(tmp_path / "policy.datalog")]
    assert said["warnings"] == []


def unit(name: str) -> configparser.ConfigParser:
    """Returns a unit's settings; of one that stands there twice the last."""
    found = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(DEPLOY / name)
    return found


def test_the_service_finds_its_socket_by_the_name_that_the_socket_unit_gives(tmp_path: Path) -> None:
    service, socket = unit("cap.service")["Service"], unit("cap.socket")["Socket"]
    program, command, *arguments = shlex.split(service["ExecStart"])
    assert (Path(program).name, command) == ("cap", "serve")
    for name in ("cap.toml", "policy.datalog"):
        shutil.copy(DEPLOY / name, tmp_path)
    (tmp_path / "root.key.pub").write_text(repr(ROOT.public_key))
    said = listeners(serve_check(tmp_path, *arguments))
    assert parse_address(said["check"]) == Inherited(socket["FileDescriptorName"])
    assert socket["ListenStream"] in (DEPLOY / "nginx.conf").read_text()
    assert (service["Type"], service["ProtectSystem"]) == ("notify", "strict")


def test_systemd_takes_the_units_and_finds_little_to_attack(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        missing("systemd is not installed")
    assert program is not None
    # its own interpreter stands for the installed command, which verify wants to find
    text = (DEPLOY / "cap.service").read_text().replace("/usr/bin/cap", sys.executable)
    (tmp_path / "cap.service").write_text(text)
    shutil.copy(DEPLOY / "cap.socket", tmp_path)
    units = [str(tmp_path / name) for name in ("cap.service", "cap.socket")]
    for arguments in (
        ["verify", "--man=no", *units],
        ["security", "--offline=true", "--threshold=15", "--no-pager", units[0]],
    ):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


def manifest() -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the files of the ConfigMap, and the pod."""
    settings, deployment = yaml.safe_load_all(MANIFEST.read_text())
    return settings["data"], deployment["spec"]["template"]["spec"]


def test_kubernetes_knows_every_word_of_the_manifest() -> None:
    text = MANIFEST.read_text()
    oldest = re.search(r"Kubernetes (1\.\d+) or later", text)
    assert oldest is not None
    documents = list(yaml.safe_load_all(text))
    for version in (oldest[1], kubernetes_validate.latest_version()):
        for each in documents:
            kubernetes_validate.validate(each, version, strict=True)
    cap = documents[1]["spec"]["template"]["spec"]["initContainers"][0]
    cap["securityContext"]["readonlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents[1], oldest[1], strict=True)


def mounted(container: Mapping[str, Any]) -> Sequence[str]:
    return [each["mountPath"] for each in container["volumeMounts"]]


def test_the_pod_s_containers_name_what_the_pod_has() -> None:
    files, pod = manifest()
    cap, nginx = pod["initContainers"][0], pod["containers"][0]
    volumes = {each["name"] for each in pod["volumes"]}
    for container in (cap, nginx):
        assert {each["name"] for each in container["volumeMounts"]} <= volumes
        assert "/run/cap" in mounted(container)
    assert cap["workingDir"] in mounted(cap)
    assert cap["restartPolicy"] == "Always"
    ports = {each["name"] for each in cap["ports"]}
    assert {
        cap[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    } == ports
    assert set(files) == {"cap.toml", "policy.datalog"}


def test_the_pod_s_configuration_is_served_and_its_probes_are_answered(tmp_path: Path) -> None:
    files, pod = manifest()
    cap = pod["initContainers"][0]
    (tmp_path / "policy.datalog").write_text(files["policy.datalog"])
    (tmp_path / "root.key.pub").write_text(repr(ROOT.public_key))
    here = files["cap.toml"].replace("/etc/cap-key", str(tmp_path))
    (tmp_path / "cap.toml").write_text(here)
    program, command, *arguments = cap["command"]
    assert (program, command) == ("cap", "serve")
    said = listeners(serve_check(tmp_path, *arguments))
    assert said == {
        "check": "unix:/run/cap/cap.sock",
        "admin": f"tcp:0.0.0.0:{cap['ports'][0]['containerPort']}",
    }
    closed = here.replace("0.0.0.0:9901", "127.0.0.1:0").replace("/run/cap", str(tmp_path))
    with sidecar(tmp_path, *arguments, config=closed) as server:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert server.ask(1, cap[probe]["httpGet"]["path"])[0] == 200
        asked = {"X-Original-Method": "GET", "X-Original-URI": "/orders/7", "X-Original-Host": "a.example"}
        assert server.ask(token=mint(), headers=asked)[0] == 200
