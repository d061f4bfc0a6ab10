"""What a decision rests on: inventory, cluster, policy, clock."""

from collections.abc import Callable

import msgspec

from webhook.engine.policy import Enforcement, Policy, enforcement
from webhook.errors import ClusterUnreachable
from webhook.inventory.cluster import ClusterReader, Followed
from webhook.inventory.provider import Inventory
from webhook.model.keys import Action
from webhook.model.objects import User


class Sources(msgspec.Struct, frozen=True):
    """`now` is the monotonic clock that tells the inventory's age."""

    inventory: Inventory
    policy: Policy
    now: Callable[[], float]
    followed: Followed | None = None
    """What is kept of the cluster; None outside any."""
    cluster: ClusterReader | None = None

    def believes(self, user: User) -> bool:
        """Whether `user` is certainly who it says: only the API server can have sent it."""
        return user.proven or self.policy.trust_network

    def enforcement(self, namespace: str, at_most: Action = "deny") -> Enforcement:
        """What is done about findings in `namespace`."""
        label = self.followed.enforced.get(namespace) if self.followed else None
        return enforcement(self.policy, namespace, label, at_most)

    async def may(self, user: User, verb: str, resource: str, namespace: str, name: str) -> bool:
        """Whether that may be told to `user` which one needs this right to see."""
        if not self.believes(user):
            return False
        if self.cluster is None:
            return True
        try:
            return await self.cluster.may(user, verb, resource, namespace, name)
        except ClusterUnreachable:
            return False
