"""Are the PVCs that this Conversion names the whole disk set of the VM that they name?"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from webhook.engine.ask import Seen, ToRead, Views, changed, judged_before
from webhook.engine.ask.destination import is_remote
from webhook.engine.ask.elsewhere import Converted, elsewhere
from webhook.engine.ask.pvc import known_to
from webhook.engine.sources import Sources
from webhook.facts.audience import Audience
from webhook.facts.diskset import DiskSet
from webhook.facts.facts import ConversionFacts
from webhook.inventory.provider import ProviderInventory
from webhook.model.forklift import Conversion, ConversionDisk
from webhook.model.keys import (
    CONVERSION_DESTINATION_FIELD,
    CONVERSION_DISKS_FIELD,
    CONVERSION_FIELDS,
    MOREF,
    UUID,
    Action,
    echoed,
    quoted,
)
from webhook.model.objects import Claim, KubeObject, StorageClass, User
from webhook.model.review import PVC, Cause, resource_of
from webhook.model.shape import mapping
from webhook.model.vms import VirtualMachine

_VEIL = Cause(
    CONVERSION_DISKS_FIELD,
    "the PVCs are not the whole disk set of one VM, each ready: whoever may list them finds the "
    "reason with `conversion-guard check`",
    "FieldValueInvalid",
    "conversion-disks",
)


class ConversionSubject(msgspec.Struct, frozen=True):
    """A Conversion, and what it was before."""

    conversion: Conversion
    is_new: bool
    changed: frozenset[str]
    pod: str = ""
    """Its own, if it has begun: that one may well mount its PVCs."""

    @property
    def judged(self) -> bool:
        return bool(self.changed) and self.conversion.judged


def subject(obj: KubeObject, old: KubeObject | None) -> ConversionSubject:
    """See webhook.engine.ask.Asking."""
    conversion, before = Conversion.of(obj), judged_before(Conversion.of, old)
    fields = changed(conversion.fields, before.fields) if before else CONVERSION_FIELDS
    pod = mapping(mapping(obj.get("status")).get("pod")).get("name")
    return ConversionSubject(conversion, before is None, fields, str(pod or ""))


async def gather(
    subject: ConversionSubject, sources: Sources, user: User, *, whole: bool = True
) -> "AskedConversion":
    """See webhook.engine.ask.Asking. The PVCs that it names are asked live, and who mounts them."""
    providers = tuple(sources.inventory.vsphere())
    conversion = subject.conversion
    destination = conversion.destination
    remote = await is_remote(destination, sources)
    if remote:
        why = f"the PVCs of {echoed(destination)} are in another cluster"
        warning = f"{CONVERSION_DESTINATION_FIELD}: not checked: {why}"
        return AskedConversion(subject=subject, warnings=(warning,))
    # A pod mounts PVCs of its own namespace only: what is named elsewhere is never looked at.
    places = [conversion.namespace] if conversion.namespace and remote is False else []
    named, mounted, audience = await asyncio.gather(
        _named(conversion, places, sources),
        _mounted(subject, places, sources),
        _audience(conversion, places, providers, sources, user),
    )
    asked = AskedConversion(
        subject=subject,
        providers=providers,
        remote=remote,
        audience=audience,
        named=named,
        mounted=mounted,
        classes=sources.followed.classes.known() if sources.followed else None,
    )
    if asked.first is None or sources.cluster is None or conversion.owned:
        return asked
    vms = {(asked.first.vm_id, asked.first.vm_uuid)}
    started = await sources.cluster.started()
    others = await elsewhere(vms, conversion.namespace, started, sources, user)
    return msgspec.structs.replace(asked, elsewhere=others)


async def _named(
    conversion: Conversion, places: Sequence[str], sources: Sources
) -> tuple[tuple[ConversionDisk, Claim | None], ...] | None:
    if sources.cluster is None:
        return None
    lists = await asyncio.gather(*(sources.cluster.claims(place) for place in places))
    known = {(claim.namespace, claim.name): claim for claims in lists for claim in claims}
    return tuple((disk, known.get((disk.namespace, disk.name))) for disk in conversion.disks)


async def _mounted(
    subject: ConversionSubject, places: Sequence[str], sources: Sources
) -> Mapping[str, str]:
    if sources.cluster is None:
        return {}
    lists = await asyncio.gather(*(sources.cluster.mounted(place) for place in places))
    return {pvc: pod for pods in lists for pvc, pod in pods.items() if pod != subject.pod}


async def _audience(
    conversion: Conversion,
    places: Sequence[str],
    providers: Sequence[ProviderInventory],
    sources: Sources,
    user: User,
) -> Audience:
    foreign = [place for place in places if place != conversion.home]
    believed = sources.believes(user)  # as one who writes to the namespace
    may = (sources.may(user, "list", resource_of(PVC), place, "") for place in foreign)
    known, rights = await asyncio.gather(known_to(user, providers, sources), asyncio.gather(*may))
    return Audience(known, claims=believed and all(rights))


class AskedConversion(msgspec.Struct, frozen=True, kw_only=True):
    """See webhook.engine.ask.Asked."""

    subject: ConversionSubject
    providers: tuple[ProviderInventory, ...] = ()
    remote: bool | None = False
    """See webhook.engine.ask.destination."""
    audience: Audience = Audience(claims=True)
    named: tuple[tuple[ConversionDisk, Claim | None], ...] | None = None
    mounted: Mapping[str, str] = {}
    """Those PVCs that running pods mount."""
    elsewhere: Converted = {}
    classes: Mapping[str, StorageClass] | None = None
    warnings: tuple[str, ...] = ()
    """Why it is not judged, where it isn't."""

    at_most: Action = "deny"
    gate = True
    any_provider = True
    names_plan: tuple[str, str] | None = None

    @property
    def judged(self) -> bool:
        return not (self.warnings or self._of_another_kind)

    @property
    def _of_another_kind(self) -> bool:
        """Whether its VM is of another kind of provider: Hyper-V and the like give a VM a uuid for
        an id, which vSphere never does, and their PVCs have no vmUUID. Only who may list PVCs may
        know that, or writes to their namespace: as far as it says."""
        conversion = self.subject.conversion
        told = self.audience.claims or conversion.home == conversion.namespace
        has_uuid = UUID.fullmatch(conversion.vm_id) is not None
        return told and self.named is not None and has_uuid and self.first is None

    @property
    def changed(self) -> frozenset[str]:
        return self.subject.changed

    @property
    def namespace(self) -> str:
        return self.subject.conversion.namespace

    @property
    def veil(self) -> Cause | None:
        return None if self.audience.claims else _VEIL

    @property
    def vms(self) -> Iterable[str]:
        return (self.subject.conversion.vm_id,)

    async def confirmed(self, sources: Sources) -> "AskedConversion":
        """See Asked: it was asked live."""
        return self

    def facts_for(self, reads: frozenset[str], facts: ConversionFacts) -> ConversionFacts | None:
        """See Asked."""
        return facts if self.subject.is_new or reads & self.changed else None

    def rank(self, source: ProviderInventory, views: Views) -> int:
        """See Asked."""
        first = self.first
        vm = views[source.name].by_moref(first.vm_id) if first else None
        return 0 if vm is None or first is None else 2 if vm.uuid == first.vm_uuid else 1

    def seen(self, source: ProviderInventory | None, views: Views) -> Seen[ConversionFacts]:
        """See Asked."""
        first = self.first
        vms = views.get(source.name) if source else None
        vm = vms.by_moref(first.vm_id) if first and vms else None
        same = vm is not None and first is not None and vm.uuid == first.vm_uuid
        # Which provider knows the VM tells what the PVCs say.
        told = source is not None and self.audience.claims and self.audience.knows(source.name)
        outcome: Literal["one", "none", "template", "unread"] = "none"
        if vm is not None and same:
            outcome = "unread" if vm.trouble else "template" if vm.template else "one"
        disks = None
        if vm is not None and source is not None and outcome == "one":
            disks = self._disks(vm, source, told=told)
        facts = ConversionFacts(
            conversion=self.subject.conversion,
            remote=self.remote,
            named=self.named,
            provider=source.provider if source and told else None,
            outcome=outcome,
            trouble=(vm.trouble or "") if vm else "",
            disks=disks,
        )
        return Seen(facts, told)

    def _disks(self, vm: VirtualMachine, source: ProviderInventory, *, told: bool) -> DiskSet:
        return DiskSet(
            vm,
            [claim for _, claim in self.named or () if claim],
            provider=source.name,
            audience=self.audience,
            label=str(vm) if told else quoted(vm.moref),
            namespace=self.namespace,
            classes=self.classes,
            mounted=self.mounted,
            elsewhere=self.elsewhere.get((vm.moref, vm.uuid)),
        )

    def wanted(self, facts: ConversionFacts, fields: Collection[str]) -> ToRead:
        """See Asked."""
        first = self.first
        return ToRead({first.vm_id} if first and MOREF.fullmatch(first.vm_id) else ())

    @property
    def first(self) -> Claim | None:
        """The first PVC of it that carries labels: its VM counts."""
        return next((claim for _, claim in self.named or () if claim), None)
