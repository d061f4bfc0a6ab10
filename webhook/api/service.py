"""One request's: what it is answered from, on whose behalf, and what that caller may know of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

from webhook.api.answers import ProviderView, provider_view
from webhook.api.callers import Callers, answered, demand, which
from webhook.api.problems import Problem, Right
from webhook.engine.readiness import READINESS_SECONDS, PlanName, Readiness, readiness
from webhook.engine.sources import Sources
from webhook.errors import VsphereUnreachable
from webhook.inventory.cluster import Followed
from webhook.inventory.provider import ProviderInventory
from webhook.model.keys import echoed
from webhook.model.objects import PROVIDERS, KubeObject, User
from webhook.model.review import PLAN, resource_of
from webhook.model.vms import VirtualMachine


class Service(msgspec.Struct, frozen=True):
    """`again` gives the same request's as of now, for one that lasts: it raises Problem where its
    token is not good any more. `ending`: whether the server is about to end."""

    sources: Sources
    user: User
    callers: Callers
    request_id: str
    again: Callable[[], Awaitable["Service"]]
    ending: Callable[[], bool]

    async def providers(self) -> tuple[ProviderView, ...]:
        """Those that the caller may get. Raises Problem."""
        known = list(self.sources.inventory)
        rights = [
            Right("get", PROVIDERS, one.provider.namespace, one.provider.name) for one in known
        ]
        allowed = await which(self.sources, self.user, rights)
        now = self.sources.now()
        shown = [
            provider_view(one, now)
            for one, right in zip(known, rights, strict=True)
            if right in allowed
        ]
        return tuple(sorted(shown, key=lambda one: (one.namespace, one.name)))

    async def provider(self, namespace: str, name: str) -> ProviderInventory:
        """A vSphere one that is known and may be seen. Raises Problem.

        The right comes first: whether there is such a Provider is told to nobody else.
        """
        await demand(self.sources, self.user, [Right("get", PROVIDERS, namespace, name)])
        found = self.sources.inventory.get(namespace, name)
        if found is None:
            known = "GET /api/v1/providers lists the known ones"
            raise Problem(404, f"Provider {namespace}/{name} is not known: {known}")
        if found.provider.type != "vsphere":
            detail = f"Provider {found.name} is of type {found.provider.type}, not vsphere: no VMs"
            raise Problem(404, detail)
        if not found.synced:
            raise Problem(503, found.trouble, headers={"Retry-After": "5"})
        return found

    async def vm(
        self, namespace: str, name: str, moref: str
    ) -> tuple[ProviderInventory, VirtualMachine]:
        """One that isn't known yet is asked for, for it may be a moment old. Raises Problem."""
        source = await self.provider(namespace, name)
        vm = source.vms.by_moref(moref)
        if vm is None and source.reader is not None:
            try:
                async with asyncio.timeout(5):
                    fresh = await source.reader.read(
                        morefs=(moref,),
                        uuids=(),
                        names=(),
                        user=self.user.username,
                        since=time.monotonic(),
                    )
            except (VsphereUnreachable, TimeoutError) as error:
                detail = f"VM {moref} is not known, and vSphere can't answer: {error}"
                raise Problem(503, detail, headers={"Retry-After": "5"}) from None
            vm = next((one for one in fresh if one.moref == moref), None)
        if vm is None:
            raise Problem(404, f"provider {source.name} has no VM {echoed(moref)}")
        return source, vm

    @property
    def followed(self) -> Followed:
        """What is kept of the cluster, its Plans among it. Raises Problem."""
        followed = self.sources.followed
        if followed is None or not followed.plans.synced:
            detail = "the cluster's Plans have not been listed yet"
            raise Problem(503, detail, headers={"Retry-After": "5"})
        return followed

    async def plans(self) -> tuple[PlanName, ...]:
        """The conversion Plans that the caller may get. Raises Problem."""
        known = self.followed.plans.known() or {}
        names = [PlanName(*key.split("/")) for key in sorted(known) if known[key].converts]
        kind = resource_of(PLAN)
        # Whoever may get all of a namespace, which is usual, costs one access review for it.
        whole = [
            Right("get", kind, namespace, "") for namespace in {one.namespace for one in names}
        ]
        allowed = {one.namespace for one in await which(self.sources, self.user, whole)}
        rest = [one for one in names if one.namespace not in allowed]
        self.callers.charge(self.user, len(rest))
        each = {one: Right("get", kind, one.namespace, one.name) for one in rest}
        also = await which(self.sources, self.user, list(each.values()))
        return tuple(one for one in names if one.namespace in allowed or each[one] in also)

    async def plan(self, namespace: str, name: str) -> KubeObject:
        """One that the caller may get. Raises Problem."""
        sources = self.sources
        await demand(sources, self.user, [Right("get", resource_of(PLAN), namespace, name)])
        cluster = sources.cluster
        assert cluster is not None  # noqa: S101  demand has asked it
        found = await answered(cluster.plan(namespace, name))
        if found is None:
            raise Problem(404, f"there is no Plan {namespace}/{name}")
        return found

    async def readiness(self, namespace: str, name: str, plan: KubeObject) -> Readiness:
        """Of that Plan, as the caller may know it. Raises Problem."""
        asked = readiness(namespace, name, plan, self.sources, self.user)
        return await answered(asked, READINESS_SECONDS)
