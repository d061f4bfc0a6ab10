"""Is this claim one disk of one VM, of any provider?"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from webhook import quantity
from webhook.engine.ask import Seen, ToRead, Views, changed
from webhook.engine.policy import Policy
from webhook.engine.sources import Sources
from webhook.errors import ClusterUnreachable
from webhook.facts import forms
from webhook.facts.audience import Audience
from webhook.facts.facts import Identity, Owner, PvcFacts
from webhook.inventory.index import Vms
from webhook.inventory.provider import ProviderInventory
from webhook.model.keys import DISK_SOURCE_FIELD, MOREF, PVC_FIELDS, UUID, Action
from webhook.model.objects import PROVIDERS, Claim, KubeObject, Pvc, StorageClass, User
from webhook.model.review import Cause
from webhook.model.vms import VirtualMachine


class PvcSubject(msgspec.Struct, frozen=True):
    """A PVC, and what it was before."""

    pvc: Pvc
    old: Pvc | None
    changed: frozenset[str]
    storage: Decimal | None

    @property
    def judged(self) -> bool:
        # Taking keys away is how a PVC is released: always right.
        if self.old is None or self.loses_its_source:
            return True
        fields = self.pvc.fields
        return any(fields[field] is not None for field in self.changed)

    @property
    def loses_its_source(self) -> bool:
        """Whether nothing but its disk-source is taken away: half a release."""
        gone = self.changed == {DISK_SOURCE_FIELD} and self.pvc.disk_source is None
        return gone and bool(self.pvc.vm_id and self.pvc.vm_uuid)


def subject(obj: KubeObject, old: KubeObject | None) -> PvcSubject:
    """See webhook.engine.ask.Asking."""
    pvc, before = Pvc.of(obj), Pvc.of(old) if old else None
    fields = changed(pvc.fields, before.fields) if before else PVC_FIELDS
    storage = quantity.parse(pvc.storage) if pvc.storage else None
    return PvcSubject(pvc, before, fields, storage)


async def gather(
    subject: PvcSubject, sources: Sources, user: User, *, whole: bool = True
) -> "AskedPvc":
    """See webhook.engine.ask.Asking. Of the cluster only what is followed, if that can be believed:
    PVCs are frequent."""
    asked = known(subject, sources, user)
    if asked is not None:
        return asked
    providers = sources.inventory.vsphere()
    siblings = _followed(subject.pvc, sources)
    if siblings is None:
        siblings = await _live(subject.pvc, sources)
    told = await known_to(user, providers, sources)
    return _asked(subject, sources, told, siblings, proven=sources.believes(user))


def known(subject: PvcSubject, sources: Sources, user: User) -> "AskedPvc | None":
    """The same where nothing has to be waited for, as for nearly every PVC; else None."""
    if subject.loses_its_source:  # only a warning comes of it: nothing is worth waiting for
        return AskedPvc(subject=subject, audience=Audience(claims=True), spared=True)
    siblings = _followed(subject.pvc, sources)
    if siblings is None or sources.believes(user):  # whose rights are asked
        return None
    return _asked(subject, sources, _NOTHING, siblings, proven=False)


_NOTHING: frozenset[str] = frozenset()


def _asked(
    subject: PvcSubject,
    sources: Sources,
    told: frozenset[str],
    siblings: tuple[Claim, ...],
    *,
    proven: bool,
) -> "AskedPvc":
    followed = sources.followed
    return AskedPvc(
        subject=subject,
        providers=sources.inventory.vsphere(),
        audience=Audience(told, claims=proven),
        siblings=siblings,
        spared=_past(subject, siblings, sources.policy),
        classes=followed.classes.known() if followed else None,
    )


async def known_to(
    user: User, providers: Sequence[ProviderInventory], sources: Sources
) -> frozenset[str]:
    """The names of the providers of which `user` may know everything."""
    if not sources.believes(user):
        return frozenset()
    places = [(source.provider.namespace, source.provider.name) for source in providers]
    asked = (sources.may(user, "get", PROVIDERS, *place) for place in places)
    allowed = zip(providers, await asyncio.gather(*asked), strict=True)
    return frozenset(source.name for source, may in allowed if may)


def _past(subject: PvcSubject, siblings: Iterable[Claim], policy: Policy) -> bool:
    """Whether the PVC is past its conversion: restored, moved or cloned with its labels, long after
    its source VM may be gone. A sibling that a VirtualMachine owns says so, too."""
    marked = policy.past_conversion.marks(subject.pvc, created=subject.old is None)
    return marked or any(claim.owned for claim in siblings)


def _followed(pvc: Pvc, sources: Sources) -> tuple[Claim, ...] | None:
    """The PVCs of the same VM, from what is followed; None where that is too old to say."""
    followed = sources.followed
    if followed is None or not (pvc.vm_id and pvc.vm_uuid):
        return ()
    if sources.cluster is not None and followed.claims.age(sources.now()) > sources.policy.stale:
        return None
    return _others(pvc, followed.claims.of(pvc.namespace, pvc.vm_id, pvc.vm_uuid))


async def _live(pvc: Pvc, sources: Sources) -> tuple[Claim, ...]:
    if sources.cluster is None:
        raise ClusterUnreachable("the guard has no access to the cluster")
    found = await sources.cluster.siblings(pvc.namespace, pvc.vm_id or "", pvc.vm_uuid or "")
    return _others(pvc, found)


def _others(pvc: Pvc, claims: Iterable[Claim]) -> tuple[Claim, ...]:
    return tuple(one for one in claims if one.name != pvc.name and not one.terminating)


class AskedPvc(msgspec.Struct, frozen=True, kw_only=True):
    """See webhook.engine.ask.Asked."""

    subject: PvcSubject
    providers: tuple[ProviderInventory, ...] = ()
    audience: Audience
    siblings: tuple[Claim, ...] = ()
    classes: Mapping[str, StorageClass] | None = None
    spared: bool = False
    """Whether nothing may stand in its way: it is past its conversion, or is being released."""

    gate = False
    any_provider = True
    judged = True
    veil: Cause | None = None
    warnings: tuple[str, ...] = ()
    names_plan: tuple[str, str] | None = None

    @property
    def changed(self) -> frozenset[str]:
        return self.subject.changed

    @property
    def namespace(self) -> str:
        return self.subject.pvc.namespace

    @property
    def at_most(self) -> Action:
        return "warn" if self.spared else "deny"

    @property
    def vms(self) -> Iterable[str]:
        vm_id = self.subject.pvc.vm_id
        return (vm_id,) if vm_id else ()

    def about(self, subject: PvcSubject) -> "AskedPvc":
        """The same for the PVC as a default has left it."""
        return msgspec.structs.replace(self, subject=subject)

    async def confirmed(self, sources: Sources) -> "AskedPvc":
        """See Asked."""
        live = await _live(self.subject.pvc, sources)
        return msgspec.structs.replace(self, siblings=live)

    def facts_for(self, reads: frozenset[str], facts: PvcFacts) -> PvcFacts | None:
        """See Asked."""
        return facts if self.subject.old is None or reads & self.subject.changed else None

    def rank(self, source: ProviderInventory, views: Views) -> int:
        """See Asked."""
        vms, uuid = views[source.name], self._uuid
        vm = self._vm(vms)
        if vm is not None:
            return 3 if vm.proven_by(forms.meanings(uuid)) else 2
        return 1 if uuid and vms.by_uuid(uuid) else 0

    @property
    def _uuid(self) -> str:
        return (self.subject.pvc.vm_uuid or "").strip()

    def _vm(self, vms: Vms | None) -> VirtualMachine | None:
        """The one whose moref the PVC's vmID is, in whatever form."""
        vm_id = self.subject.pvc.vm_id
        return vms.by_moref(forms.moref(vm_id)) if vms is not None and vm_id else None

    def seen(self, source: ProviderInventory | None, views: Views) -> Seen[PvcFacts]:
        """See Asked. The VM is told to who has proven it, or may know the provider."""
        pvc = self.subject.pvc
        uuid = self._uuid
        vms = views.get(source.name) if source else None
        vm = self._vm(vms)
        identity = _identity(pvc, uuid, vm)
        proven = vm is not None and vm.proven_by(forms.meanings(uuid))
        told = source is not None and self.audience.knows(source.name)
        same_moref = same_uuid = _NOBODY
        if not proven and self._all_told(views):  # whose they are matters only there
            same_moref = self._owners(views, pvc.vm_id, None)
            same_uuid = self._owners(views, None, uuid)
        if not (proven or told):
            identity = "differs" if identity == "unknown" else identity
            vm = None
        return Seen(
            PvcFacts(
                pvc=pvc,
                old=self.subject.old,
                identity=identity,
                provider=source.provider if source and told else None,
                vm=vm,
                matching=vm.matching(pvc.disk_source) if vm and pvc.disk_source else (),
                twins=_twins(vms, vm, uuid) if proven and told and vms and vm else (),
                same_moref=same_moref,
                same_uuid=same_uuid,
                siblings=self.siblings if self.audience.claims else _nameless(self.siblings),
                classes=self.classes,
                storage=self.subject.storage,
            ),
            told=proven or told,
        )

    def _all_told(self, views: Views) -> bool:
        """Whether every provider there is has its word, and may be told: so that all candidates
        can be named, and "the only one" means it."""
        return bool(self.audience.providers) and all(
            one.name in views and self.audience.knows(one.name) for one in self.providers
        )

    def _owners(self, views: Views, moref: str | None, uuid: str | None) -> tuple[Owner, ...]:
        found: list[Owner] = []
        for one in self.providers:
            vms = views[one.name]
            if moref and (vm := vms.by_moref(moref)) is not None:
                found.append((one.provider, vm))
            if uuid:
                same = (vm for vm in vms.by_uuid(uuid) if not vm.template)  # which none may name
                found.extend((one.provider, vm) for vm in same)
        return tuple(found)

    def wanted(self, facts: PvcFacts, fields: Collection[str]) -> ToRead:
        """See Asked."""
        vm_id, vm_uuid = forms.moref(self.subject.pvc.vm_id or ""), self.subject.pvc.vm_uuid or ""
        return ToRead(
            {vm_id} if MOREF.fullmatch(vm_id) else (),
            {vm_uuid} if UUID.fullmatch(vm_uuid) else (),
        )


_NOBODY: tuple[Owner, ...] = ()


def _nameless(claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    return tuple(msgspec.structs.replace(claim, name="") for claim in claims)


def _twins(vms: Vms, vm: VirtualMachine, uuid: str) -> tuple[VirtualMachine, ...]:
    same = vms.by_uuid(uuid)
    if len(same) < 2:
        return ()
    return tuple(one for one in same if one is not vm and one.uuid == vm.uuid)


def _identity(pvc: Pvc, uuid: str, vm: VirtualMachine | None) -> Identity:
    if not pvc.vm_id or not pvc.vm_uuid:
        return "incomplete"
    if vm is None or pvc.vm_id != vm.moref:
        return "unknown"
    if vm.trouble and (vm.proven_by((uuid.lower(),)) or not vm.uuid):
        return "unread"
    if pvc.vm_uuid == vm.uuid:
        return "same"
    if uuid.lower() == vm.uuid.lower():
        return "case"
    if uuid.lower() == vm.instance_uuid.lower():
        return "instance"
    readings = {reading.value for reading in forms.uuids(uuid)}
    if vm.uuid.lower() in readings:
        return "form"
    return "instance" if vm.instance_uuid.lower() in readings else "differs"
