"""The test bed: etcd, a Kubernetes API server and vCenter simulators on free loopback ports.

Everything here is the real program. What starts is ended again, also when a later part fails to.
"""

import base64
import copy
import csv
import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import pyVim.connect
import pyVmomi
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.e2e.parts import Parts, parts
from webhook import tls

FORKLIFT_CONTROLLER = "system:serviceaccount:openshift-mtv:forklift-controller"
FORKLIFT_POPULATOR = "system:serviceaccount:openshift-mtv:forklift-populator-controller"
CDI = "system:serviceaccount:cdi:cdi-sa"
GUARD = "system:serviceaccount:conversion-guard:conversion-guard"
USERS = ("admin", "vendor", "viewer", FORKLIFT_CONTROLLER, FORKLIFT_POPULATOR, CDI, GUARD)
"""Who can log in. Only `admin` may do anything until a test binds a role to the others."""

FORKLIFT = "forklift.konveyor.io/v1beta1"
PLAIN = {
    "MutatingWebhookConfiguration": "/mutate",
    "ValidatingWebhookConfiguration": "/validate",
}
"""The guard's path, where it proves nothing."""

_CORE = "Event", "PersistentVolumeClaim", "Pod", "Secret"
_LOOPBACK = "127.0.0.1"
_END, _ANSWER, _COMMAND = 5.0, 10.0, 120.0  # deadlines in seconds
LONGEST_WAIT = 180.0
"""Seconds that whatever must come to pass is waited for, also on a busy machine."""
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "users": [GUARD]},  # what it asks for, never a Secret's content
        {
            "level": "RequestResponse",
            "resources": [
                {"group": "", "resources": ["persistentvolumeclaims"]},
                {"group": "forklift.konveyor.io"},
            ],
        },
        {"level": "None"},
    ],
}

# Partly annotated: mypy would take each call of what is not for a mistake.
_session: Any = pyVim.connect
vim: Any = pyVmomi.vim

T = TypeVar("T")


class ProgramDied(Exception):
    """A program of the bed ended by itself; the message has the end of its log."""


def eventually(check: Callable[[], T], what: str, timeout: float = LONGEST_WAIT) -> T:
    """The first true answer of `check`, asked again and again; AssertionError after `timeout` s.

    A check that raises has only failed for now. `what` names the thing awaited, as in
    "the Plan is ready".
    """
    deadline = time.monotonic() + timeout
    while True:
        cause: Exception | None = None
        try:
            if answer := check():
                return answer
            failure = f"answered {answer!r}"
        except ProgramDied:
            raise
        except Exception as error:  # noqa: BLE001 - any failure may pass, and the last one is told
            cause, failure = error, f"{type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}; last: {failure}") from cause
        time.sleep(0.05)


def free_port() -> int:
    """A loopback port that nothing listens on.

    Below those that the kernel gives to outgoing connections: one of them must not take it
    before the program that it is for.
    """
    for port in secrets.SystemRandom().sample(range(20_000, 32_768), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((_LOOPBACK, port))
            return port
    raise OSError("none of 100 loopback ports is free")


class Program:
    """A program in a process group of its own, running inside `with` or from start() to stop().

    `ready` is polled until it answers true; exceptions mean "not yet". Output goes to `log`.
    Standard input is a pipe that closes when this process dies, for programs that care.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        folder: Path,
        ready: Callable[[], object],
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = Path(argv[0]).name
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self._argv, self._ready, self._env = argv, ready, env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        if self._process is None:
            raise ProgramDied(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and return once it is ready; raises ProgramDied if it ends before."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} is running already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )
        try:
            eventually(self._ready_or_dead, f"{self.name} is ready (log: {self.log})")
        except BaseException:  # also Ctrl-C
            self.stop()
            raise

    def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL after 5 s. Nothing happens if it isn't running."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:  # closes its standard input, and waits
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _ready_or_dead(self) -> object:
        code = self._process.poll() if self._process else None
        if code is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
            raise ProgramDied(f"{self.name} ended with {code}; the end of its log:\n{last}")
        return self._ready()


class Etcd(Program):
    """One etcd member, at `url`."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.url = f"http://{_LOOPBACK}:{free_port()}"
        peer = f"http://{_LOOPBACK}:{free_port()}"
        argv: list[str | Path] = [
            program,
            f"--data-dir={folder / 'data'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
            "--unsafe-no-fsync",  # the data outlives no test
        ]
        super().__init__(argv, folder, lambda: _get_ok(f"{self.url}/health"))

    def put(self, key: str, obj: Mapping[str, Any]) -> None:
        """Write an object past the API server, which reads JSON there, too."""
        pair = {"key": key, "value": json.dumps(obj)}
        body = {name: _base64(text.encode()) for name, text in pair.items()}
        httpx.post(f"{self.url}/v3/kv/put", json=body, trust_env=False).raise_for_status()


class ApiServer(Program):
    """A Kubernetes API server with RBAC and no controllers, at `url`, trusted by `ca_file`.

    `audit_log` has one JSON event a line for PVCs and Forklift's resources, answers included; of
    what GUARD asks, whatever it is, that it was asked.
    """

    def __init__(self, program: Path, folder: Path, etcd_url: str) -> None:
        port = free_port()
        certificates = folder / "certificates"
        self.url = f"https://{_LOOPBACK}:{port}"
        self.ca_file = certificates / "apiserver.crt"  # the server makes it when it starts
        self.audit_log = folder / "audit.log"
        self._tokens = {user: secrets.token_urlsafe(24) for user in USERS}
        super().__init__(
            [
                program,
                f"--etcd-servers={etcd_url}",
                f"--bind-address={_LOOPBACK}",
                f"--secure-port={port}",
                f"--cert-dir={certificates}",
                f"--service-account-key-file={folder / 'service-accounts.key'}",
                f"--service-account-signing-key-file={folder / 'service-accounts.key'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.0.0.0/24",
                f"--token-auth-file={folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",  # no controller makes "default"
                f"--audit-policy-file={folder / 'audit-policy.json'}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-maxsize=0",  # never begun anew: tests look for what was let through
            ],
            folder,
            # The namespace `default` comes a moment after /readyz, and tests need it.
            lambda: self._answers("/readyz") and self._answers("/api/v1/namespaces/default"),
        )
        _write_private(folder / "service-accounts.key", _rsa_key())
        (folder / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY))
        _write_private(folder / "tokens.csv")
        with (folder / "tokens.csv").open("w", newline="") as tokens:
            csv.writer(tokens).writerows(
                (token, user, user, ",".join(_groups(user))) for user, token in self._tokens.items()
            )

    def restart(self, *flags: str) -> None:
        """Begin anew, with these flags besides."""
        self.stop()
        self._argv = [*self._argv, *flags]
        self.start()

    def kubeconfig(self, user: str = "admin") -> Path:
        """A kubeconfig file by which `user`, one of USERS, is known to this server."""
        if user not in self._tokens:
            raise ValueError(f"{user} is none of {', '.join(self._tokens)}")
        path = self.folder / f"{user.replace(':', '.')}.kubeconfig"
        if path.exists():  # somebody may be reading it
            return path
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bed", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": user}}],
            "current-context": "bed",
        }
        _write_private(path, json.dumps(config).encode())
        return path

    def client(self, user: str = "admin") -> httpx.Client:
        """HTTP as `user`, one of USERS: what kubectl shows only in part, and setting up by the
        hundred, which a process for each would make slow. Paths are relative; see `path_of`."""
        return httpx.Client(**self.connecting(user))

    def connecting(self, user: str = "admin") -> dict[str, Any]:
        """What an httpx client of `user` is made of."""
        return {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {self._tokens[user]}"},
            "verify": ssl.create_default_context(cafile=self.ca_file),
            "trust_env": False,
            "timeout": 30,
        }

    def _answers(self, path: str) -> bool:
        return _get_ok(self.url + path, self.ca_file, f"Bearer {self._tokens['admin']}")


class Vcsim(Program):
    """A vCenter simulator that demands a login. stop() and start() are an outage on one port.

    Its inventory is the same at each start: what a test has shaped is gone after an outage.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        *,
        hosts: int = 1,
        clusters: int = 1,
        vms: int = 2,
        copies: int = 0,
    ) -> None:
        self.port = free_port()
        self.url = f"https://{_LOOPBACK}:{self.port}/sdk"
        self.user = "administrator@vsphere.local"
        self.password = secrets.token_urlsafe(12)
        self.ca_file = folder / "ca.crt"
        argv: list[str | Path] = [
            program,
            f"-listen={_LOOPBACK}:{self.port}",
            f"-cert={folder / 'tls.crt'}",
            f"-key={folder / 'tls.key'}",
            f"-user={self.user}",
            f"-password={self.password}",
            f"-hosts={hosts}",
            f"-clusters={clusters}",
            f"-vms={vms}",
            f"-copies={copies}",
        ]
        about = f"https://{_LOOPBACK}:{self.port}/about"
        env = {**os.environ, "TMPDIR": str(folder)}  # its datastores go when the bed goes
        super().__init__(argv, folder, lambda: _get_ok(about, self.ca_file), env)
        tls.write(tls.issue([_LOOPBACK, "localhost"], datetime.now(UTC)), folder)

    def as_provider(self, namespace: str, name: str, folder: Path) -> dict[str, str]:
        """An entry of the settings' `providers`; its password is in `folder`."""
        password = folder / "password"
        password.write_text(self.password)
        return {
            "namespace": namespace,
            "name": name,
            "url": self.url,
            "user": self.user,
            "passwordFile": str(password),
            "caFile": str(self.ca_file),
        }

    @contextmanager
    def connect(self) -> Iterator[Any]:
        """A logged-in pyVmomi ServiceInstance; its certificate is verified."""
        instance = _session.SmartConnect(
            host=_LOOPBACK,
            port=self.port,
            user=self.user,
            pwd=self.password,
            sslContext=ssl.create_default_context(cafile=self.ca_file),
            httpConnectionTimeout=_COMMAND,  # else a simulator that hangs hangs its test for ever
        )
        try:
            yield instance
        finally:
            _session.Disconnect(instance)


@dataclass(frozen=True)
class Kubectl:
    """What one call of kubectl left."""

    returncode: int
    stdout: str
    stderr: str


class Bed:
    """etcd, an API server and any number of simulators in one folder, inside `with`.

    `folder` keeps logs and data; without it they are temporary and go with the bed.
    """

    api: ApiServer
    folder: Path
    _etcd: Etcd

    def __init__(
        self, vcsims: int = 0, *, folder: Path | None = None, programs: Parts | None = None
    ) -> None:
        self.parts = programs or parts()
        self.vcsims: list[Vcsim] = []
        self._wanted = vcsims
        self._given_folder = folder
        self._running = ExitStack()
        self._shipped: dict[Path, list[dict[str, Any]]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as starting:  # ends what has started if anything below fails
            self._running = starting
            self.folder = self._given_folder or Path(
                starting.enter_context(tempfile.TemporaryDirectory(prefix="conversion-guard-"))
            )
            self._etcd = self.run(Etcd(self.parts.etcd, self.folder / "etcd"))
            self.api = self.run(
                ApiServer(self.parts.kube_apiserver, self.folder / "api", self._etcd.url)
            )
            for _ in range(self._wanted):
                self.add_vcsim()
            self._running = starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def run(self, program: AbstractContextManager[T]) -> T:
        """Enter one more Program, or any context, to be left before all that run already."""
        return self._running.enter_context(program)

    def add_vcsim(self, *, hosts: int = 1, clusters: int = 1, vms: int = 2) -> Vcsim:
        """One more simulator. With the same shape it has the same morefs and uuids as another."""
        folder = self.folder / f"vcsim-{len(self.vcsims)}"
        shape = {"hosts": hosts, "clusters": clusters, "vms": vms}
        self.vcsims.append(self.run(Vcsim(self.parts.vcsim, folder, **shape)))
        return self.vcsims[-1]

    def kubeconfig(self, user: str = "admin") -> Path:
        """A kubeconfig file by which `user`, one of USERS, is known to the API server."""
        return self.api.kubeconfig(user)

    def kubectl(
        self, *args: str, stdin: str | None = None, user: str = "admin", check: bool = False
    ) -> Kubectl:
        """Run the real kubectl as `user`; with `check`, a failure is an AssertionError."""
        config = self.kubeconfig(user)
        home = self.folder / "homes" / config.stem  # kubectl caches what it discovers, per user
        home.mkdir(parents=True, exist_ok=True)
        ran = subprocess.run(
            [self.parts.kubectl, *args],
            env={
                "KUBECONFIG": str(config),
                "HOME": str(home),
                "PATH": os.environ["PATH"],
                "GOGC": "off",  # no process of a moment needs it, and it is a third of its work
            },
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            timeout=_COMMAND,
            check=False,
        )
        if check and ran.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {ran.stderr.strip()}")
        return Kubectl(ran.returncode, ran.stdout, ran.stderr)

    def shell(
        self, command: str, folder: Path, *programs: Path
    ) -> "subprocess.CompletedProcess[str]":
        """Run a guide's command in `folder` as the administrator, with kubectl and what is in the
        folders `programs`."""
        path = [*programs, self.parts.kubectl.parent, os.environ["PATH"]]
        return subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env={
                "KUBECONFIG": str(self.kubeconfig()),
                "HOME": str(self.folder),
                "PATH": os.pathsep.join(map(str, path)),
            },
            capture_output=True,
            text=True,
            timeout=_COMMAND,
            check=False,
        )

    def install_crds(self, folder: Path) -> None:
        """Create the CustomResourceDefinitions in `folder`, and wait until they are served."""
        # Forklift's Plan is too large for the annotation of a client-side apply.
        self.kubectl("apply", "--server-side", "-f", str(folder), check=True)
        self.kubectl("wait", "--for=condition=Established", "-f", str(folder), check=True)

    def apply_shipped_manifests(
        self, folder: Path, base_url: str, ca_pem: bytes | None = None, patience: int | None = None
    ) -> Kubectl:
        """Apply a kustomization as it is shipped, but with its webhooks at `base_url`.

        This API server can't reach a Service, so `clientConfig` gets a url and the CA of the server
        that listens there, unless that writes it itself. `patience`: seconds that it waits for a
        webhook's answer, where that isn't as shipped. Nothing else is changed.
        """
        objects = self.shipped(folder)
        for item in objects:
            if item["kind"] in PLAIN:
                for webhook in item["webhooks"]:
                    client = webhook["clientConfig"]
                    # A self-managed guard writes its path itself; another one has none yet.
                    service = client.pop("service")
                    client["url"] = base_url + service.get("path", PLAIN[item["kind"]])
                    if patience is not None:
                        webhook["timeoutSeconds"] = patience
                    if ca_pem is not None:
                        client["caBundle"] = _base64(ca_pem)
        stream = "\n---\n".join(json.dumps(item) for item in objects)
        return self.kubectl("apply", "-f", "-", stdin=stream, check=True)

    def shipped(self, folder: Path) -> list[dict[str, Any]]:
        """A kustomization's objects, the caller's to change."""
        if folder not in self._shipped:
            text = self.kubectl("kustomize", str(folder), check=True).stdout
            self._shipped[folder] = [item for item in yaml.safe_load_all(text) if item is not None]
        return copy.deepcopy(self._shipped[folder])

    @contextmanager
    def having(self, *objects: dict[str, Any]) -> Iterator[None]:
        """With these objects, which are gone again afterwards."""
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("create", "-f", "-", stdin=listed, check=True)
        try:
            yield
        finally:
            self.kubectl("delete", "-f", "-", stdin=listed, check=True)

    def add_pod(self, pod: dict[str, Any], age: timedelta) -> None:
        """A Pod as it is after so long: no API server takes a time of creation from anybody."""
        with self.api.client() as client:
            made = client.post(path_of(pod), json=pod).raise_for_status().json()
        created = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {**made["metadata"], "creationTimestamp": created}
        key = f"/registry/pods/{metadata['namespace']}/{metadata['name']}"
        self._etcd.put(key, {**made, "metadata": metadata, "status": pod["status"]})

    def empty(self, namespace: str, *kinds: str) -> None:
        """Delete all that there is of Forklift's or the core's `kinds`, and the finalizers that
        would keep it: this bed has no controller to take them away."""
        with self.api.client() as client:
            for kind in kinds:
                version = "v1" if kind in _CORE else FORKLIFT
                path = path_of(
                    {"apiVersion": version, "kind": kind, "metadata": {"namespace": namespace}}
                )
                client.delete(path).raise_for_status()
                for left in client.get(path).raise_for_status().json()["items"]:
                    # Gone (404) if it had none, and was only slow to go.
                    loose = {"metadata": {"finalizers": None}}
                    _merge(client, f"{path}/{left['metadata']['name']}", loose)


def path_of(obj: Mapping[str, Any]) -> str:
    """Where objects of its kind are created, in its namespace."""
    version, namespace = obj["apiVersion"], obj["metadata"].get("namespace")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{place}/{re.sub('y$', 'ie', obj['kind'].lower())}s"


def set_status(client: httpx.Client, obj: Mapping[str, Any], status: Mapping[str, Any]) -> None:
    """What a controller does, which this bed hasn't got."""
    answer = _merge(client, f"{path_of(obj)}/{obj['metadata']['name']}/status", {"status": status})
    assert answer.is_success, answer.text


def _merge(client: httpx.Client, path: str, change: Mapping[str, Any]) -> httpx.Response:
    headers = {"Content-Type": "application/merge-patch+json"}
    return client.patch(path, content=json.dumps(change), headers=headers)


def end_other_sessions(instance: Any) -> None:
    """All but this one: who has another must log in anew, and read everything."""
    sessions = instance.RetrieveContent().sessionManager
    own = sessions.currentSession.key
    sessions.TerminateSession([one.key for one in sessions.sessionList if one.key != own])


def find_vm(instance: Any, name: str) -> Any:
    """The VM of that name in all of the vCenter's inventory."""
    content = instance.RetrieveContent()
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    try:
        found = [vm for vm in view.view if vm.name == name]
    finally:
        view.Destroy()
    if len(found) != 1:
        raise LookupError(f"{len(found)} VMs are named {name}")
    return found[0]


BUSES: dict[str, Any] = {
    "scsi": vim.vm.device.VirtualSCSIController,
    "sata": vim.vm.device.VirtualSATAController,
    "ide": vim.vm.device.VirtualIDEController,
    "nvme": vim.vm.device.VirtualNVMEController,
    "usb": vim.vm.device.VirtualUSBXHCIController,
    "": vim.vm.device.VirtualPCIController,  # of which nobody takes a disk
}
"""A disk's bus, and the controllers that it is of."""


def add_disk(
    vm: Any,
    capacity_kib: int,
    file_name: str | None = None,
    *,
    bus: str = "scsi",
    backing: str = "FlatVer2",
    **how: Any,
) -> Any:
    """Attach a new disk to the VM's controller of that bus, and return it as the VM has it then.

    `file_name` is `[datastore] folder/file.vmdk`; without it the vCenter chooses one. `how` is of
    the backing, such as `sharing`.
    """
    devices = vm.config.hardware.device
    keys = {device.key for device in devices}
    controller = next(d for d in devices if isinstance(d, BUSES[bus]))
    taken = {d.unitNumber for d in devices if d.controllerKey == controller.key}
    disk = vim.vm.device.VirtualDisk(
        key=-1,
        controllerKey=controller.key,
        unitNumber=next(n for n in range(64) if n not in taken | {7}),  # 7 is the controller
        capacityInKB=capacity_kib,
        backing=getattr(vim.vm.device.VirtualDisk, f"{backing}BackingInfo")(
            fileName=file_name or "", **{"diskMode": "persistent", **how}
        ),
    )
    change = vim.vm.device.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk)
    wait_for(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    return next(device for device in vm.config.hardware.device if device.key not in keys)


def rename(vm: Any, name: str) -> None:
    """Give the VM another name; its folder and disks keep theirs."""
    wait_for(vm.Rename_Task(name))


def set_uuid(vm: Any, uuid: str) -> None:
    """Set the BIOS uuid, `config.uuid`: give two VMs one uuid, as careless cloning does."""
    wait_for(vm.ReconfigVM_Task(vim.vm.ConfigSpec(uuid=uuid)))


def encrypt(vm: Any) -> None:
    """Encrypt the VM, which must be off, by a key that nobody has."""
    keeper = vim.encryption.KeyProviderId(id="keeper")
    key = vim.encryption.CryptoKeyId(keyId="key", providerId=keeper)
    how = vim.encryption.CryptoSpecEncrypt(cryptoKeyId=key)
    wait_for(vm.ReconfigVM_Task(vim.vm.ConfigSpec(crypto=how)))


def power_off(vm: Any) -> None:
    """Cut the power, if it is on."""
    # Not asked first: pyVmomi can't read this simulator's `vm.runtime`.
    with suppress(vim.fault.InvalidPowerState):
        wait_for(vm.PowerOffVM_Task())


def mark_as_template(vm: Any) -> None:
    """Make the VM a template, powered off first."""
    power_off(vm)
    vm.MarkAsTemplate()


def destroy(vm: Any) -> None:
    """Delete the VM with its disks, powered off first."""
    power_off(vm)
    wait_for(vm.Destroy_Task())


def wait_for(task: Any) -> Any:
    """The result of a vSphere task; raises the task's own error."""
    eventually(lambda: task.info.state in ("success", "error"), f"{task} ends")
    if task.info.state == "error":
        raise task.info.error
    return task.info.result


def _get_ok(url: str, ca_file: Path | None = None, authorization: str = "") -> bool:
    verify = ssl.create_default_context(cafile=ca_file) if ca_file else False
    headers = {"Authorization": authorization} if authorization else {}
    answer = httpx.get(url, headers=headers, verify=verify, trust_env=False, timeout=_ANSWER)
    return answer.status_code == 200


def _groups(user: str) -> Sequence[str]:
    match user.split(":"):
        case ["admin"]:
            return ["system:masters"]
        case ["system", "serviceaccount", namespace, _]:
            return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    return []


def _rsa_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _write_private(path: Path, content: bytes = b"") -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
