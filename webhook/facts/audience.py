"""What a caller may be told: built once for a review, and obeyed where facts are made.

Facts lack what their caller may not know, so that no rule can tell it. An object proves a VM if it
has that VM's vmID and one of its uuids: of that VM everything may be told to anybody. The rest
needs a right that the API server confirms, for a caller that the API server certainly named.
"""

import msgspec


class Audience(msgspec.Struct, frozen=True):
    """One caller, as far as one object is concerned."""

    providers: frozenset[str] = frozenset()
    """`namespace/name` of the providers whose VMs may be told: the caller may get them."""
    claims: bool = False
    """Whether PVCs of the namespace that counts may be named and counted: the caller may list them,
    or has certainly written to that namespace."""
    plan: bool = True
    """Whether the Plan that a Migration names may be spoken of: the caller may get it, or it is in
    the Migration's own namespace."""
    secrets: bool = False
    """Whether it may be told that a Secret of the Plan's namespace isn't there: the caller may get
    Secrets or create Migrations there, or starts the Plan that names it: the verdict alone would
    tell."""

    def knows(self, provider: str) -> bool:
        """Whether everything of that provider may be told."""
        return provider in self.providers
