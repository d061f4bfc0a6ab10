"""What is asked of a PropertyCollector, in SOAP: everything in pages, a few VMs, what is new."""

import time
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from pyVmomi import vim, vmodl

from webhook.model.keys import MOREF, UUID
from webhook.vsphere.answers import FOLDER_FIELDS, VM_FIELDS, Change, SoapAnswer, SoapFault
from webhook.vsphere.session import QUICK, Session, SoapCall

PAGE = 500
"""Objects in one page: a few megabytes, so that memory stays flat."""
_Collector = vmodl.query.PropertyCollector
_PIECE_TIMEOUT = 30.0  # of a bulk read, between two pieces
_KINDS = {"VirtualMachine": VM_FIELDS, "Folder": FOLDER_FIELDS, "Datacenter": FOLDER_FIELDS}


_HELD = 0.3
"""Of the silence that is allowed: so long vSphere holds a wait that has no news."""
_LATE = 0.5
"""Of the same: so long an answer may be late before the wait is given up."""


class News(NamedTuple):
    """What has changed since the last call."""

    changes: list[Change]
    more: bool
    """Whether the rest is ready to be asked for."""
    at: float
    """When this was so at the earliest, in seconds of time.monotonic()."""


class Subscription:
    """A filter on every VM, folder and datacenter, and what has been told of it."""

    def __init__(self, session: Session, silence: float) -> None:
        """`silence`: seconds within which each wait is answered, or has failed."""
        self._session = session
        self._held, self._late = int(silence * _HELD), silence * _LATE
        content = session.content
        kinds = [vim.VirtualMachine, vim.Folder, vim.Datacenter]
        self._view = content.viewManager.CreateContainerView(content.rootFolder, kinds, True)
        self._collector = content.propertyCollector.CreatePropertyCollector()
        self._collector.CreateFilter(_filter(self._view), partialUpdates=False)
        self._version = ""

    def everything(self) -> Generator[Change, None, None]:
        """All there is now, in pages. Raises VsphereUnreachable."""
        call = (
            f'<RetrievePropertiesEx xmlns="urn:vim25">{_this(self._session)}'
            f"<specSet>{_fields(_KINDS)}{_of_view(self._view)}</specSet>"
            f"<options><maxObjects>{PAGE}</maxObjects></options></RetrievePropertiesEx>"
        )
        return _pages(self._session, call)

    def news(self, *, wait: bool) -> News:
        """What has changed since the last call; may `wait` for it.

        The first call tells everything. Raises VsphereUnreachable: also where vSphere has forgotten
        the version that the last call left off at.
        """
        seconds = self._held if wait else 0
        call = (
            '<WaitForUpdatesEx xmlns="urn:vim25">'
            f'<_this type="PropertyCollector">{escape(self._collector._moId)}</_this>'
            f"<version>{escape(self._version)}</version><options>"
            f"<maxWaitSeconds>{seconds}</maxWaitSeconds>"
            f"<maxObjectUpdates>{PAGE}</maxObjectUpdates></options></WaitForUpdatesEx>"
        )
        answer = SoapAnswer()
        patience = seconds + self._late if wait else _PIECE_TIMEOUT
        at = time.monotonic()
        changes = list(self._session.wait(call, patience, answer))
        self._version = answer.version or self._version
        if not changes and time.monotonic() - at >= seconds:
            at += seconds  # so long it has held the call before it said that there is nothing
        return News(changes, answer.truncated, at)

    def cancel(self) -> None:
        """End a wait that is blocked; its `news` raises a SoapFault, RequestCanceled."""
        self._collector.CancelWaitForUpdates()


def those(
    session: Session, morefs: Collection[str], kind: str = "VirtualMachine"
) -> Iterator[Change]:
    """Those of these objects that are there; the morefs must have passed MOREF."""
    if not morefs:
        return
    objects = "".join(
        f'<objectSet><obj type="{kind}">{escape(moref)}</obj></objectSet>' for moref in morefs
    )
    call = (
        f'<RetrievePropertiesEx xmlns="urn:vim25">{_this(session)}'
        f"<specSet>{_fields({kind: _KINDS[kind]})}{objects}</specSet>"
        f"<options><maxObjects>{PAGE}</maxObjects></options></RetrievePropertiesEx>"
    )
    found = []
    try:
        found = list(_pages(session, call, QUICK))
    except SoapFault as fault:
        if fault.kind not in ("ManagedObjectNotFound", "ManagedObjectNotFoundFault"):
            raise
        if len(morefs) > 1:  # one that is gone spoils the call for all
            middle = len(morefs) // 2
            ordered = sorted(morefs)
            found = [
                *those(session, ordered[:middle], kind),
                *those(session, ordered[middle:], kind),
            ]
    yield from found


def morefs_of_uuids(session: Session, uuids: Collection[str]) -> Iterator[str]:
    """The VMs with one of these as their config.uuid or config.instanceUuid."""
    search = session.content.searchIndex
    for uuid in uuids:
        if UUID.fullmatch(uuid):
            for instance in (False, True):
                for vm in search.FindAllByUuid(None, uuid.lower(), True, instance) or ():
                    yield vm._moId


def morefs_of_names(session: Session, names: Collection[str]) -> Iterator[str]:
    """The VMs of these names, decoded: vSphere can't be asked by name alone."""
    if not names:
        return
    content = session.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    try:
        call = (
            f'<RetrievePropertiesEx xmlns="urn:vim25">{_this(session)}'
            f"<specSet>{_fields({'VirtualMachine': {'name': 'name'}})}{_of_view(view)}</specSet>"
            f"<options><maxObjects>{PAGE}</maxObjects></options></RetrievePropertiesEx>"
        )
        for change in _pages(session, call, QUICK):
            if change.fields.get("name") in names and MOREF.fullmatch(change.moref):
                yield change.moref
    finally:
        view.Destroy()


def _pages(
    session: Session, call: str, timeout: float = _PIECE_TIMEOUT
) -> Generator[Change, None, None]:
    """The objects of every page.

    A page begins with its token, so the next one is asked for at once: vSphere gathers it while
    this one is being parsed.
    """
    following: SoapCall | None = session.asked(call, timeout)
    try:
        while following is not None:
            page, following = following, None
            answer = SoapAnswer()
            # Closed whatever happens here: its socket must not wait for the garbage collector.
            with closing(page.read(answer)) as changes:
                for change in changes:
                    if answer.token and following is None:
                        following = _next(session, answer.token, timeout)
                    yield change
            if answer.token and following is None:
                following = _next(session, answer.token, timeout)
    finally:
        if following is not None:
            following.drop()


def _next(session: Session, token: str, timeout: float) -> SoapCall:
    call = (
        f'<ContinueRetrievePropertiesEx xmlns="urn:vim25">{_this(session)}'
        f"<token>{escape(token)}</token></ContinueRetrievePropertiesEx>"
    )
    return session.asked(call, timeout)


def _this(session: Session) -> str:
    collector = escape(session.content.propertyCollector._moId)
    return f'<_this type="PropertyCollector">{collector}</_this>'


def _fields(kinds: dict[str, dict[str, str]]) -> str:
    return "".join(
        f"<propSet><type>{kind}</type><all>false</all>"
        f"{''.join(f'<pathSet>{path}</pathSet>' for path in fields)}</propSet>"
        for kind, fields in kinds.items()
    )


def _of_view(view: Any) -> str:
    # The simulator wants the literal prefix `xsi:`.
    return (
        f'<objectSet><obj type="ContainerView">{escape(view._moId)}</obj><skip>true</skip>'
        '<selectSet xsi:type="TraversalSpec"><name>view</name><type>ContainerView</type>'
        "<path>view</path><skip>false</skip></selectSet></objectSet>"
    )


def _filter(view: Any) -> Any:
    traversal = _Collector.TraversalSpec(
        name="view", path="view", skip=False, type=vim.view.ContainerView
    )
    return _Collector.FilterSpec(
        objectSet=[_Collector.ObjectSpec(obj=view, skip=True, selectSet=[traversal])],
        propSet=[
            _Collector.PropertySpec(type=getattr(vim, kind), pathSet=list(fields))
            for kind, fields in _KINDS.items()
        ],
    )
