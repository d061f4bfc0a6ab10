"""What is asked of a PropertyCollector, in SOAP: everything in pages, a few VMs, what is new."""

from collections.abc import Collection, Iterator
from typing import Any
from xml.sax.saxutils import escape

from pyVmomi import vim, vmodl

from webhook.model.keys import MOREF, UUID
from webhook.vsphere.answers import FOLDER_FIELDS, VM_FIELDS, Answer, Change, Fault
from webhook.vsphere.session import QUICK, Asked, Session

PAGE = 500
"""Objects in one page: a few megabytes, so that memory stays flat."""
WAIT = 25
"""Seconds that vSphere holds a wait before it says that nothing is new."""

WAIT_MARGIN = 20.0
"""Seconds after that, when a wait without an answer is given up."""

_Collector = vmodl.query.PropertyCollector
_PIECE_TIMEOUT = 30.0  # of a bulk read, between two pieces
_KINDS = {"VirtualMachine": VM_FIELDS, "Folder": FOLDER_FIELDS, "Datacenter": FOLDER_FIELDS}


class Following:
    """A filter on every VM, folder and datacenter, and what has been told of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        content = session.content
        kinds = [vim.VirtualMachine, vim.Folder, vim.Datacenter]
        self._view = content.viewManager.CreateContainerView(content.rootFolder, kinds, True)
        self._collector = content.propertyCollector.CreatePropertyCollector()
        self._collector.CreateFilter(_filter(self._view), partialUpdates=False)
        self._version = ""

    def everything(self) -> Iterator[Change]:
        """All there is now, in pages. Raises VsphereUnreachable."""
        call = (
            f'<RetrievePropertiesEx xmlns="urn:vim25">{_this(self._session)}'
            f"<specSet>{_fields(_KINDS)}{_of_view(self._view)}</specSet>"
            f"<options><maxObjects>{PAGE}</maxObjects></options></RetrievePropertiesEx>"
        )
        return _pages(self._session, call)

    def news(self, *, wait: bool) -> tuple[list[Change], bool]:
        """What has changed since the last call, and whether more is ready; may `wait` for it.

        The first call tells everything. Raises VsphereUnreachable: also where vSphere has forgotten
        the version that the last call left off at.
        """
        seconds = WAIT if wait else 0
        call = (
            '<WaitForUpdatesEx xmlns="urn:vim25">'
            f'<_this type="PropertyCollector">{escape(self._collector._moId)}</_this>'
            f"<version>{escape(self._version)}</version><options>"
            f"<maxWaitSeconds>{seconds}</maxWaitSeconds>"
            f"<maxObjectUpdates>{PAGE}</maxObjectUpdates></options></WaitForUpdatesEx>"
        )
        answer = Answer()
        changes = list(self._session.wait(call, seconds + WAIT_MARGIN, answer))
        self._version = answer.version or self._version
        return changes, answer.truncated

    def cancel(self) -> None:
        """End a wait that is blocked; its `news` raises a Fault, RequestCanceled."""
        self._collector.CancelWaitForUpdates()


def vms(session: Session, morefs: Collection[str]) -> Iterator[Change]:
    """Those of these VMs that are there; the morefs must have passed MOREF."""
    if not morefs:
        return
    objects = "".join(
        f'<objectSet><obj type="VirtualMachine">{escape(moref)}</obj></objectSet>'
        for moref in morefs
    )
    call = (
        f'<RetrievePropertiesEx xmlns="urn:vim25">{_this(session)}'
        f"<specSet>{_fields({'VirtualMachine': VM_FIELDS})}{objects}</specSet>"
        f"<options><maxObjects>{PAGE}</maxObjects></options></RetrievePropertiesEx>"
    )
    found = []
    try:
        found = list(_pages(session, call, QUICK))
    except Fault as fault:
        if fault.kind not in ("ManagedObjectNotFound", "ManagedObjectNotFoundFault"):
            raise
        if len(morefs) > 1:  # one that is gone spoils the call for all
            middle = len(morefs) // 2
            ordered = sorted(morefs)
            found = [*vms(session, ordered[:middle]), *vms(session, ordered[middle:])]
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
    """The VMs of these names, or at these paths' ends: vSphere can't be asked by name alone."""
    last = {name.rstrip("/").rpartition("/")[2] for name in names}
    if not last:
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
            if change.fields.get("name") in last and MOREF.fullmatch(change.moref):
                yield change.moref
    finally:
        view.Destroy()


def _pages(session: Session, call: str, timeout: float = _PIECE_TIMEOUT) -> Iterator[Change]:
    """The objects of every page.

    A page begins with its token, so the next one is asked for at once: vSphere gathers it while
    this one is being parsed.
    """
    following: Asked | None = session.asked(call, timeout)
    try:
        while following is not None:
            page, following = following, None
            answer = Answer()
            for change in page.read(answer):
                if answer.token and following is None:
                    following = _next(session, answer.token, timeout)
                yield change
            if answer.token and following is None:
                following = _next(session, answer.token, timeout)
    finally:
        if following is not None:
            following.drop()


def _next(session: Session, token: str, timeout: float) -> Asked:
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
