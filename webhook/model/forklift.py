"""What Kubernetes says of Forklift: Plans, Migrations, Conversions."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from webhook.errors import ObjectMalformed
from webhook.model.keys import (
    AFFINITY_FIELDS,
    CONVERSION_DESTINATION_FIELD,
    CONVERSION_DISKS_FIELD,
    CONVERSION_VM_FIELD,
    DELETE_FIELD,
    DESTINATION_PROVIDER_FIELD,
    LABEL_FIELDS,
    MIGRATION_PLAN_FIELD,
    NETWORK_MAP_FIELD,
    PLAN_TYPE_FIELD,
    PLAN_VMS_FIELD,
    POWER_STATE_FIELD,
    RESUME_FIELD,
    SHARED_DISKS_FIELD,
    SOURCE_PROVIDER_FIELD,
    STATIC_IPS_FIELD,
    STORAGE_MAP_FIELD,
    TARGET_NAMESPACE_FIELD,
    TEMPLATES_FIELD,
    WARM_FIELD,
)
from webhook.model.objects import KubeObject, Metadata, Provider
from webhook.model.shape import listed, mapping, text

Fate = Literal["kept", "deleted", "unknown"]
"""What becomes of a vendor's PVCs at the start of a Plan with deleteVmOnFailMigration."""

_NUMBERS = re.compile(r"\bv?(\d+)\.(\d+)\.(\d+)", re.ASCII)
_OF_PODS = LABEL_FIELDS | AFFINITY_FIELDS
_LAST_THAT_DELETES = 2, 12, 0


class Release(msgspec.Struct, frozen=True):
    """The Forklift of a cluster."""

    pvcs: Fate = "unknown"
    version: str = ""
    """Such as `2.12.0`; empty where only its CRDs tell what it does."""

    @property
    def order(self) -> tuple[int, ...]:
        """Earlier ones come first."""
        return tuple(int(part) for part in self.version.split(".") if part)

    @classmethod
    def named(cls, text: str) -> "Release | None":
        """The one whose version is in the name of an image or of an operator's release."""
        found = _NUMBERS.search(text)
        if found is None:
            return None
        deletes = tuple(map(int, found.groups())) <= _LAST_THAT_DELETES
        return cls("deleted" if deletes else "kept", ".".join(found.groups()))


ARCHIVED = "archived"
"""What is kept as the type of a Plan that is: its own doesn't matter any more."""


class KeptPlan(msgspec.Struct, frozen=True):
    """What is kept of a Plan; of any but a conversion only its type."""

    type: str = ""
    """spec.type, empty where unset; or ARCHIVED."""
    target_namespace: str = ""
    source: Provider = Provider("", "", "")
    destination: Provider = Provider("", "", "")
    vms: tuple[tuple[str, str], ...] = ()
    """Id and name of each entry of spec.vms."""
    running: tuple[tuple[str, str], ...] = ()
    """Likewise of the VMs that Forklift converts now, whatever has become of spec.vms."""
    done: frozenset[str] = frozenset()
    """The ids of those that have succeeded, or that it is done with while others run."""

    @classmethod
    def of(cls, plan: KubeObject) -> "KeptPlan":
        """Of a conversion; nothing but that where a needed field has another type."""
        try:
            spec = mapping(plan.get("spec"), "spec")
            source, destination = _providers(spec)
            target = text(spec.get("targetNamespace"), TARGET_NAMESPACE_FIELD) or ""
        except ObjectMalformed:
            return cls("conversion")  # Forklift can't read it either
        entries = spec.get("vms")
        vms = tuple(map(_texts, map(mapping, entries if isinstance(entries, list) else ())))
        status = mapping(plan.get("status"))
        executes, running, done = _has(status, "Executing"), [], []
        for vm in _progress(status):
            if _has(vm, "Succeeded") or (executes and vm.get("completed")):
                done.append(str(vm.get("id")))
            elif executes:
                running.append(_texts(vm))
        more = tuple(running), frozenset(done)
        return cls("conversion", target, source, destination, vms, *more)

    @property
    def converts(self) -> bool:
        """As Plan.judged."""
        return self.type == "conversion"


class PlanVm(msgspec.Struct, frozen=True):
    """One entry of spec.vms, and where it stands."""

    index: int
    id: str = ""
    name: str = ""
    root_disk: str = ""
    """rootDisk, such as `/dev/sdb`."""
    migrates_shared: bool | None = None
    """migrateSharedDisks; None where the Plan's own counts."""
    templates: tuple[str, str] = ("", "")
    """pvcNameTemplate and volumeNameTemplate, where they are its own."""
    target_name: str = ""
    """targetName: the new VM's; empty where the old one's is kept."""
    instance_type: str = ""
    luks: str = ""
    """luks.name: the Secret that unlocks the disks, also in the Plan's own namespace."""
    deletes: bool = False
    """deleteVmOnFailMigration is true."""

    @property
    def field(self) -> str:
        return f"{PLAN_VMS_FIELD}[{self.index}]"

    @property
    def meant(self) -> "PlanVm":
        """What two entries must have in common to be the same: all but their places."""
        return msgspec.structs.replace(self, index=0)


class Plan(msgspec.Struct, frozen=True):
    """A Forklift Plan, as far as it concerns a conversion (Forklift: plan.go, PlanSpec)."""

    type: str = ""
    archived: bool = False
    source: Provider = Provider("", "", "")
    """spec.provider.source; its type isn't in the Plan."""
    destination: Provider = Provider("", "", "")
    """spec.provider.destination, likewise."""
    target_namespace: str = ""
    namespace: str = ""
    name: str = ""
    warm: bool = False
    preserves_ips: bool = True
    """spec.preserveStaticIPs, which is true where it isn't given."""
    has_network_map: bool = False
    migrates_shared: bool = True
    """spec.migrateSharedDisks, likewise."""
    templates: tuple[str, str] = ("", "")
    """spec.pvcNameTemplate and spec.volumeNameTemplate."""
    vms: tuple[PlanVm, ...] = ()
    succeeded: frozenset[str] = frozenset()
    """The morefs whose migration is done: status.migration.vms[] with condition Succeeded."""
    copied: frozenset[str] = frozenset()
    """Those whose disks are in place, by disksCopied: a resumed conversion runs these again, and
    only these, however they have ended."""
    begun: frozenset[str] = frozenset()
    """Those that Forklift has begun to shut down, and is not done with: the conversion itself
    mounts their PVCs. One that has failed or was cancelled runs again in the next Migration."""
    executing: bool = False
    """status.conditions[] has Executing: what its VMs lack now, they lack when it counts."""
    seen: bool = False
    """Forklift has looked at this very generation: status.observedGeneration."""
    ready: bool = False
    """status.conditions[] has Ready."""
    blockers: tuple[str, ...] = ()
    """The conditions with which Forklift starts nothing: those of category Critical or Error."""
    spec: Mapping[str, Any] = {}
    """The spec as it came, for the defaults: they repair what has the wrong type."""

    @classmethod
    def of(cls, obj: KubeObject) -> "Plan":
        """The Plan in `obj`. Raises ObjectMalformed where a needed field has another type."""
        spec = mapping(obj.get("spec"), "spec")
        metadata = obj.get("metadata") or Metadata()
        namespace, name = metadata.get("namespace") or "", metadata.get("name") or ""
        kind, archived = text(spec.get("type"), PLAN_TYPE_FIELD) or "", spec.get("archived") is True
        if kind != "conversion" or archived:  # nothing else of it is anybody's concern here
            return cls(type=kind, archived=archived, namespace=namespace, name=name, spec=spec)
        source, destination = _providers(spec)
        status = mapping(obj.get("status"))
        generation = metadata.get("generation")
        return cls(
            type=kind,
            archived=archived,
            source=source,
            destination=destination,
            target_namespace=text(spec.get("targetNamespace"), TARGET_NAMESPACE_FIELD) or "",
            namespace=namespace,
            name=name,
            warm=spec.get("warm") is True,
            preserves_ips=spec.get("preserveStaticIPs") is not False,
            has_network_map=bool(mapping(mapping(spec.get("map")).get("network")).get("name")),
            migrates_shared=spec.get("migrateSharedDisks") is not False,
            templates=_templates(spec, "spec"),
            vms=tuple(
                _plan_vm(index, entry) for index, entry in enumerate(listed(spec, PLAN_VMS_FIELD))
            ),
            succeeded=frozenset(_ids(status, lambda vm: _has(vm, "Succeeded"))),
            copied=frozenset(_ids(status, lambda vm: vm.get("disksCopied") is True)),
            begun=frozenset(_ids(status, begun)),
            executing=_has(status, "Executing"),
            seen=generation is not None and status.get("observedGeneration") == generation,
            ready=_has(status, "Ready"),
            blockers=tuple(
                str(condition.get("type"))
                for condition in _conditions(status)
                if condition.get("category") in ("Critical", "Error")
            ),
            spec=spec,
        )

    @property
    def judged(self) -> bool:
        """Whether it converts VMs: warm and cold migrations are nobody's concern here."""
        return self.type == "conversion" and not self.archived

    @property
    def fields(self) -> Mapping[str, Any]:
        """Each of PLAN_FIELDS: what a rule says that it reads."""
        return {
            PLAN_TYPE_FIELD: self.type,
            SOURCE_PROVIDER_FIELD: self.source,
            DESTINATION_PROVIDER_FIELD: self.destination,
            TARGET_NAMESPACE_FIELD: self.target_namespace,
            PLAN_VMS_FIELD: self.spec.get("vms"),
            STORAGE_MAP_FIELD: self.spec.get("map"),
            NETWORK_MAP_FIELD: self.has_network_map,
            POWER_STATE_FIELD: self.spec.get("targetPowerState"),
            WARM_FIELD: self.warm,
            STATIC_IPS_FIELD: self.preserves_ips,
            SHARED_DISKS_FIELD: self.migrates_shared,
            TEMPLATES_FIELD: self.templates,
            DELETE_FIELD: self.spec.get("deleteVmOnFailMigration"),
            **{field: self.spec.get(field.rpartition(".")[2]) for field in _OF_PODS},
        }


class Migration(msgspec.Struct, frozen=True):
    """A Forklift Migration: the start of its Plan (Forklift: migration.go, MigrationSpec)."""

    plan: Provider = Provider("", "", "")
    """spec.plan, a namespace and a name."""
    resumes: bool = False
    """spec.resumeConversion: disks are in place, and Forklift checks them itself."""

    @classmethod
    def of(cls, obj: KubeObject) -> "Migration":
        """The Migration in `obj`. Raises ObjectMalformed where a needed field has another type."""
        spec = mapping(obj.get("spec"), "spec")
        plan = _reference(mapping(spec.get("plan"), MIGRATION_PLAN_FIELD), MIGRATION_PLAN_FIELD)
        if not plan.namespace:
            own = (obj.get("metadata") or Metadata()).get("namespace") or ""
            plan = msgspec.structs.replace(plan, namespace=own)
        return cls(plan, spec.get("resumeConversion") is True)

    @property
    def judged(self) -> bool:
        """Whether it starts a Plan."""
        return bool(self.plan.name)

    @property
    def fields(self) -> Mapping[str, Any]:
        """Each of MIGRATION_FIELDS: what a rule says that it reads."""
        return {MIGRATION_PLAN_FIELD: self.plan, RESUME_FIELD: self.resumes}


class ConversionDisk(msgspec.Struct, frozen=True):
    """One entry of a Conversion's spec.disks: a PVC."""

    index: int
    namespace: str
    name: str

    @property
    def field(self) -> str:
        return f"{CONVERSION_DISKS_FIELD}[{self.index}]"


class Conversion(msgspec.Struct, frozen=True):
    """A Forklift Conversion: one VM's conversion pod (Forklift: conversion.go, ConversionSpec)."""

    type: str = ""
    vm_id: str = ""
    """spec.vm.id. It names no provider: the VM is known by what its PVCs say."""
    namespace: str = ""
    """spec.targetNamespace: where the pod runs. Forklift refuses a Conversion without one."""
    home: str = ""
    """Its own namespace."""
    destination: Provider = Provider("", "", "")
    """spec.destination: the cluster of the PVCs; empty for this one."""
    disks: tuple[ConversionDisk, ...] = ()
    owned: bool = False
    """It has an owner: Forklift has made it, for a Plan."""

    @classmethod
    def of(cls, obj: KubeObject) -> "Conversion":
        """The Conversion in `obj`. Raises ObjectMalformed where a needed field has another type."""
        spec = mapping(obj.get("spec"), "spec")
        own = (obj.get("metadata") or Metadata()).get("namespace") or ""
        disks = []
        for index, entry in enumerate(listed(spec, CONVERSION_DISKS_FIELD)):
            field = f"{CONVERSION_DISKS_FIELD}[{index}]"
            disk = mapping(entry, field)
            place = text(disk.get("namespace"), f"{field}.namespace") or ""
            name = text(disk.get("name"), f"{field}.name") or ""
            disks.append(ConversionDisk(index, place, name))
        destination = mapping(spec.get("destination"), CONVERSION_DESTINATION_FIELD)
        return cls(
            type=text(spec.get("type"), "spec.type") or "",
            vm_id=text(mapping(spec.get("vm"), CONVERSION_VM_FIELD).get("id"), "spec.vm.id") or "",
            namespace=text(spec.get("targetNamespace"), TARGET_NAMESPACE_FIELD) or "",
            home=own,
            destination=_reference(destination, CONVERSION_DESTINATION_FIELD),
            disks=tuple(disks),
            owned=bool((obj.get("metadata") or Metadata()).get("ownerReferences")),
        )

    @property
    def judged(self) -> bool:
        """Whether it converts the disks of PVCs in place. Of type Remote, virt-v2v writes the disks
        itself: their PVCs need no labels."""
        return self.type == "InPlace"

    @property
    def fields(self) -> Mapping[str, Any]:
        """Each of CONVERSION_FIELDS: what a rule says that it reads."""
        return {
            "spec.type": self.type,
            CONVERSION_VM_FIELD: self.vm_id,
            CONVERSION_DISKS_FIELD: self.disks,
            CONVERSION_DESTINATION_FIELD: self.destination,
            TARGET_NAMESPACE_FIELD: self.namespace,
        }


def _providers(spec: Mapping[str, Any]) -> tuple[Provider, Provider]:
    """A Plan's source and destination."""
    both = mapping(spec.get("provider"), "spec.provider")
    source = mapping(both.get("source"), SOURCE_PROVIDER_FIELD)
    destination = mapping(both.get("destination"), DESTINATION_PROVIDER_FIELD)
    return (
        _reference(source, SOURCE_PROVIDER_FIELD),
        _reference(destination, DESTINATION_PROVIDER_FIELD),
    )


def _reference(value: Mapping[str, Any], field: str) -> Provider:
    namespace = text(value.get("namespace"), f"{field}.namespace") or ""
    return Provider(namespace, text(value.get("name"), f"{field}.name") or "", "")


def _plan_vm(index: int, entry: object) -> PlanVm:
    field = f"{PLAN_VMS_FIELD}[{index}]"
    vm = mapping(entry, field)
    return PlanVm(
        index,
        text(vm.get("id"), f"{field}.id") or "",
        text(vm.get("name"), f"{field}.name") or "",
        text(vm.get("rootDisk"), f"{field}.rootDisk") or "",
        shared if isinstance(shared := vm.get("migrateSharedDisks"), bool) else None,
        _templates(vm, field),
        text(vm.get("targetName"), f"{field}.targetName") or "",
        text(vm.get("instanceType"), f"{field}.instanceType") or "",
        _luks(vm),
        vm.get("deleteVmOnFailMigration") is True,
    )


TEMPLATES = ("pvcNameTemplate", "volumeNameTemplate")
"""Fields of a Plan, and of each of its VMs."""


def _templates(spec: Mapping[str, Any], field: str) -> tuple[str, str]:
    pvc, volume = (text(spec.get(name), f"{field}.{name}") or "" for name in TEMPLATES)
    return pvc, volume


def _luks(vm: Mapping[str, Any]) -> str:
    """Whatever luks.namespace and nbdeClevis say (Forklift: kubevirt.go, podVolumeMounts)."""
    name = mapping(vm.get("luks")).get("name")
    return name if isinstance(name, str) else ""


def _ids(status: Mapping[str, Any], that: Callable[[Mapping[str, Any]], bool]) -> Iterator[str]:
    """The ids of the VMs in status.migration that `that` says so of."""
    return (str(vm.get("id")) for vm in _progress(status) if that(vm))


def _progress(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """status.migration.vms. It is Forklift's own, and may be read leniently."""
    vms = mapping(status.get("migration")).get("vms")
    return map(mapping, vms if isinstance(vms, list) else ())


# The phases of a VM that is still on, and the last one. Source: Forklift's migrator/base/
# migrator.go, the itineraries.
_NOT_OFF = frozenset({"", "Started", "PreHook", "StorePowerState", "Completed"})


def begun(vm: Mapping[str, Any]) -> bool:
    """Of a VM in status.migration.vms: see Plan.begun."""
    return vm.get("phase", "") not in _NOT_OFF and not vm.get("completed")


def _texts(vm: Mapping[str, Any]) -> tuple[str, str]:
    """Its id and its name."""
    return str(vm.get("id") or ""), str(vm.get("name") or "")


def _has(status: Mapping[str, Any], kind: str) -> bool:
    return any(condition.get("type") == kind for condition in _conditions(status))


def _conditions(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Those that hold."""
    conditions = status.get("conditions")
    for condition in map(mapping, conditions if isinstance(conditions, list) else ()):
        if condition.get("status") == "True":
            yield condition
