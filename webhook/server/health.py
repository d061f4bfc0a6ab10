"""Health, as kubelet and people ask for it: by FastAPI, for nothing here is in a hurry."""

from collections.abc import Callable, Collection

from fastapi import FastAPI, Response

from webhook.engine.sources import Sources

_READY_WITHIN = 60.0  # seconds


def health(
    sources: Sources,
    draining: Callable[[], bool],
    certificate_good: Callable[[], bool],
    failing: Callable[[], Collection[str]],
) -> FastAPI:
    """The app of `/livez`, `/healthz` and `/readyz`. `failing`: parts that fail again and again."""
    rest = FastAPI(title="Conversion Guard", openapi_url=None)
    started = sources.now()

    @rest.get("/livez")
    async def live() -> Response:
        return Response("ok\n", media_type="text/plain")

    @rest.get("/healthz")
    async def healthy() -> Response:
        """No probe of life: a restart makes no better certificate, and people must see it."""
        if not certificate_good():
            return Response("the serving certificate has expired\n", 503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")

    @rest.get("/readyz")
    async def ready() -> Response:
        """Ready once every vSphere provider has been read or is known to be unreachable, and the
        cluster's PVCs, storage classes and namespaces have been listed, and its Forklift looked at.

        Or after a while: what is still not known then makes verdicts undecided, one by one. But not
        before the cluster's Plans have been listed: a Migration of a Plan that isn't known is
        admitted. Not while a part that verdicts rest on fails again and again. Never again once the
        end has been asked for.
        """
        if draining():
            return Response("ending\n", 503, media_type="text/plain")
        if parts := failing():
            text = f"failing again and again, see the log: {', '.join(parts)}\n"
            return Response(text, 503, media_type="text/plain")
        waiting = _waiting(sources)
        late = sources.now() - started >= _READY_WITHIN
        if waiting and not (late and _knows_plans(sources)):
            # Names of providers are inventory, which health must not tell: only how many.
            return Response(f"{waiting} first reads not finished\n", 503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")

    return rest


def _knows_plans(sources: Sources) -> bool:
    return sources.followed is None or sources.followed.plans.synced


def _waiting(sources: Sources) -> int:
    """How much is still to be read for the first time."""
    followed = sources.followed
    return sources.inventory.first_reads + (followed.unlisted if followed else 0)
