"""The calls of `/api/v1`: FastAPI routes that answer with msgspec's bytes."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, Path, Query, Request, Response

from webhook import __version__
from webhook.api.answers import (
    NoSuchPage,
    Providers,
    Search,
    VmDisks,
    VmPage,
    age,
    page,
    vm_view,
)
from webhook.api.callers import demand
from webhook.api.handlers import add_handlers
from webhook.api.incoming import decoded
from webhook.api.openapi import BODY, answering, described, ref, responses, takes
from webhook.api.problems import InvalidField, Problem, Right
from webhook.api.service import Service
from webhook.api.stream import NEWS, NEWS_TYPE, NewsStream
from webhook.engine.check import check, kind_of, unfolded
from webhook.engine.readiness import Plans, Readiness
from webhook.engine.reference import Reference, reference
from webhook.engine.results import Candidate, Results
from webhook.errors import RenderImpossible
from webhook.manifests import render
from webhook.manifests.render import Rendered, RenderRequest
from webhook.model.keys import MOREF, UUID, echoed
from webhook.model.review import JUDGED, resource_of

BODY_LIMIT = 3 * 2**20
"""Bytes, for the server to hold: what the API server takes from its clients."""
OBJECTS = 1000
"""In one check."""
_CHECK_SECONDS = 60.0
_BASE = "/api/v1"

_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_OR_NONE = f"^({_LABEL[1:-1]})?$"
_SUBDOMAIN = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
Namespace = Annotated[str, Path(pattern=_LABEL, max_length=63, examples=["openshift-mtv"])]
Name = Annotated[str, Path(pattern=_SUBDOMAIN, max_length=253, examples=["vsphere-production"])]
Moref = Annotated[
    str,
    Path(
        pattern=f"^{MOREF.pattern}$",
        description="The VM's managed object reference, as in the label vmID.",
        examples=["vm-178"],
    ),
]


def _service(request: Request) -> Service:
    """The request's own, once its query has no name that nobody reads."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    if others := sorted(set(request.query_params) - known):
        fix = f"use {', '.join(sorted(known))}" if known else "leave it out"
        detail = f"query.{echoed(others[0])} is not known: {fix}"
        fault = InvalidField(f"query.{others[0][:64]}", "is not known")
        raise Problem(422, detail, errors=(fault,))
    service: Service = request.scope["service"]
    return service


ByService = Annotated[Service, Depends(_service)]


def _json(answer: object) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


REST = FastAPI(
    telemetry={"tracing": False, "metrics": False, "logs": False},  # webhook.metrics has ours
    title="Conversion Guard",
    version=__version__,
    summary="Read the vSphere inventory, and check objects before they are applied",
    description=(
        "Every call needs a Kubernetes bearer token with the API's own audience "
        "(`kubectl create token NAME --audience conversion-guard`), and the rights that the call "
        "names. "
        "Errors are problem details (RFC 9457)."
    ),
    openapi_url=None,
    docs_url=None,
    redoc_url=None,
    redirect_slashes=False,
    generate_unique_id_function=lambda route: route.name,
)


@REST.get(
    f"{_BASE}/providers", responses=answering(Providers, "The Providers that the caller may get.")
)
async def list_providers(service: ByService) -> Response:
    """List the Providers.

    Only those that the caller may `get`: how old the inventory of each is, and what is wrong.
    """
    return _json(Providers(await service.providers()))


@REST.get(
    f"{_BASE}/providers/{{namespace}}/{{provider}}/vms",
    responses=answering(VmPage, "A page of VMs.", 400, 403, 404),
)
async def list_vms(
    service: ByService,
    namespace: Namespace,
    provider: Name,
    name: Annotated[
        str, Query(max_length=800, description="Only the VM of this name, path or moref, exactly.")
    ] = "",
    contains: Annotated[
        str,
        Query(
            max_length=80, description="Only VMs whose names contain this, in upper or lower case."
        ),
    ] = "",
    uuid: Annotated[
        str,
        Query(
            pattern=f"^({UUID.pattern.replace('0-9a-f', '0-9a-fA-F')})?$",
            description="Only VMs with this config.uuid or config.instanceUuid.",
        ),
    ] = "",
    disk_source: Annotated[
        str,
        Query(
            alias="diskSource",
            max_length=1024,
            description="Only VMs with a disk of this file: `[datastore] folder/file.vmdk`. "
            "The suffix of a snapshot is ignored, as Forklift ignores it.",
        ),
    ] = "",
    limit: Annotated[int, Query(ge=1, le=500, description="VMs per page.")] = 100,
    continue_: Annotated[
        str,
        Query(
            alias="continue",
            max_length=128,
            description="`continue` of the previous page, with the same other parameters.",
        ),
    ] = "",
) -> Response:
    """List a Provider's VMs, a page at a time.

    In the order of their morefs: no VM is left out or listed twice while others come and go.
    Needs `get` on the Provider.
    """
    source = await service.provider(namespace, provider)
    # In a thread, for a vCenter may have 100,000 VMs, and reviews must not wait.
    now, search = service.sources.now(), Search(name, contains, uuid, disk_source)
    try:
        return _json(await asyncio.to_thread(page, source, search, limit, continue_, now))
    except NoSuchPage:
        fault = InvalidField("query.continue", "is not a value that a page of this list has given")
        there = f"{fault.field}: {echoed(continue_)} {fault.message}"
        raise Problem(400, f"{there}: begin without it", errors=(fault,)) from None


@REST.get(
    f"{_BASE}/providers/{{namespace}}/{{provider}}/vms/{{moref}}/disks",
    responses=answering(VmDisks, "The VM and its disks.", 403, 404),
)
async def list_disks(
    service: ByService, namespace: Namespace, provider: Name, moref: Moref
) -> Response:
    """Show a VM's disks.

    For each disk the exact disk-source, and whether the new VM gets it, or why not. Needs `get` on
    the Provider.
    """
    source, vm = await service.vm(namespace, provider, moref)
    told_at = age(source, service.sources.now())
    return _json(VmDisks(told_at, vm_view(source, vm), render.disks(vm)))


@REST.post(
    f"{_BASE}/providers/{{namespace}}/{{provider}}/vms/{{moref}}/pvcs",
    responses=answering(Rendered, "The manifests, and the disks without one.", 403, 404, *BODY),
    openapi_extra=takes(ref(RenderRequest)),
)
async def make_pvcs(
    service: ByService, request: Request, namespace: Namespace, provider: Name, moref: Moref
) -> Response:
    """Write the PVCs of a VM.

    Manifests with the right labels, annotation and size, ready to apply; nothing is created.
    Needs `get` on the Provider.
    """
    wanted = await decoded(request, RenderRequest)
    _, vm = await service.vm(namespace, provider, moref)
    try:
        return _json(render.pvcs(vm, wanted))
    except RenderImpossible as error:
        raise Problem(422, str(error)) from None


@REST.post(
    f"{_BASE}/check",
    responses=answering(Results, "A result for each object, in their order.", 403, *BODY),
    openapi_extra=takes(
        {
            "anyOf": [
                {"type": "object", "description": "A manifest, or a List of them."},
                {"type": "array", "maxItems": OBJECTS, "description": "Manifests."},
            ]
        }
    ),
)
async def check_objects(
    service: ByService,
    request: Request,
    namespace: Annotated[
        str,
        Query(pattern=_OR_NONE, max_length=63, description="For objects without a namespace."),
    ] = "",
) -> Response:
    """Check objects before they are applied.

    One object, a JSON array, or a List: PVCs, Plans, Migrations, Conversions; other kinds are not
    checked. A PVC or Plan of the list counts as present for the objects that need it. Each object
    gets the verdict of admission, the findings, the JSON Patch and the patched object. Needs
    `create` on each object's kind in its namespace. Each object counts as a request of its caller,
    of `api.ratePerUser` (100) a second: after 1,000 at once the next request is answered by 429
    for ten seconds, with Retry-After.
    """
    content = await decoded(request)
    if not isinstance(content, dict | list):
        fault = InvalidField("body", "is neither an object nor an array")
        raise Problem(422, "body: send an object, a List or an array of objects", errors=(fault,))
    given = content if isinstance(content, list) else [content]
    candidates = [one for obj in given for one in unfolded(Candidate(obj))]
    if len(candidates) > OBJECTS:
        detail = f"body: {len(candidates)} objects are more than {OBJECTS}: split them"
        raise Problem(
            422, detail, errors=(InvalidField("body", f"has more than {OBJECTS} objects"),)
        )
    service.callers.charge(service.user, max(0, len(candidates) - 1))
    await demand(service.sources, service.user, _creates(candidates, namespace))
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            results = await check(
                candidates, service.sources, user=service.user, namespace=namespace
            )
    except TimeoutError:
        detail = f"not all objects were checked within {_CHECK_SECONDS:g} s: send fewer"
        raise Problem(503, detail, headers={"Retry-After": "5"}) from None
    try:
        return _json(Results(results))
    except RecursionError:
        raise Problem(422, "body: an object is nested too deeply") from None


@REST.get(
    f"{_BASE}/plans",
    responses=answering(Plans, "The conversion Plans that the caller may get."),
)
async def list_plans(service: ByService) -> Response:
    """List the conversion Plans.

    Only those that the caller may `get`, without the archived ones.
    """
    return _json(Plans(await service.plans()))


@REST.get(
    f"{_BASE}/plans/{{namespace}}/{{plan}}/readiness",
    responses=answering(Readiness, "Whether a Migration would start now.", 403, 404),
)
async def show_readiness(service: ByService, namespace: Namespace, plan: Name) -> Response:
    """Compare a Plan's disks with its PVCs.

    For each VM the check that a Migration must pass. Needs `get` on the Plan. Disks are shown to
    those who may `get` the Provider, and the names of PVCs to those who may `list` them.
    """
    found = await service.plan(namespace, plan)
    return _json(await service.readiness(namespace, plan, found))


@REST.get(
    f"{_BASE}/readiness",
    responses=responses(
        {"anyOf": [ref(news) for news in NEWS]},
        "Lines of JSON, until the caller ends it.",
        media_type=NEWS_TYPE,
    ),
)
async def watch_readiness(service: ByService) -> Response:
    """Follow the readiness of all Plans.

    The answer does not end by itself: each of its lines is a JSON object, told apart by its `type`.
    First every conversion Plan that the caller may `get` is told (`plan`), then `whole`; from then
    on a Plan when its readiness changes, and `gone` when it is deleted, archived or out of sight.
    `providers` comes every 10 seconds, also when nothing else does. `end` says why the stream ends:
    `status` and `detail` as of any error. Five streams of one user may be open at once, and 100 of
    all.
    """
    return NewsStream(service)


@REST.get(f"{_BASE}/rules", responses=answering(Reference, "All rules and defaults."))
async def list_rules(service: ByService) -> Response:
    """List what is checked and filled in: the rule reference, in the order of the rules."""
    return Response(_RULES, media_type="application/json")


@REST.get(
    f"{_BASE}/openapi.json",
    responses=responses({"type": "object"}, "OpenAPI 3.1."),
)
async def show_openapi(service: ByService) -> Response:
    """Show this description."""
    return Response(openapi(), media_type="application/json")


_RULES = msgspec.json.encode(reference())


def _creates(candidates: list[Candidate], namespace: str) -> list[Right]:
    """What one must be allowed who would apply them; nothing for what nobody judges."""
    rights: dict[Right, None] = {}
    for one in candidates:
        kind = kind_of(one)
        if kind not in JUDGED:
            continue
        metadata = one.object.get("metadata")
        place = metadata.get("namespace") if isinstance(metadata, dict) else None
        if place is None or isinstance(place, str):  # another is found to be no object at all
            rights[Right("create", resource_of(kind), place or namespace)] = None
    return list(rights)


add_handlers(REST)
_SHOWN = (
    Providers,
    Plans,
    VmPage,
    VmDisks,
    Rendered,
    RenderRequest,
    Results,
    Readiness,
    Reference,
    *NEWS,
)
_OPENAPI = described(REST, _SHOWN)


def openapi() -> bytes:
    """The OpenAPI 3.1 document of this version, as docs/openapi.json has it."""
    return _OPENAPI
