"""The exception tree: every failure that the guard knows by name.

Each message is written for the person who reads it and holds no secret.
"""


class GuardError(Exception):
    """The root: anything the guard raises on purpose."""


class SettingsInvalid(GuardError):
    """The settings can't be used; the message lists every bad value, one a line."""


class PartEnded(GuardError):
    """A part of a running guard has ended, and can't begin anew in this process."""


class SnapshotInvalid(GuardError):
    """A snapshot file can't be read; the message names the file and the place in it."""


class BodyRefused(GuardError):
    """A request's body is not read to its end: `code` is the HTTP status, 408, 413 or 503.

    The rest stays unread, so the connection is of no further use.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ReviewMalformed(GuardError):
    """A request body is no AdmissionReview that can be judged.

    `uid` is the request's, where it could be read: an answer must echo it.
    """

    def __init__(self, message: str, uid: str | None = None) -> None:
        super().__init__(message)
        self.uid = uid


class ObjectMalformed(GuardError):
    """A reviewed object isn't of its kind's shape; `field` is the path, as kubectl names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class VsphereUnreachable(GuardError):
    """vSphere could not be asked: network, certificate, login, or time."""


class TooManyReads(VsphereUnreachable):
    """vSphere was not asked, so that it isn't asked too often."""


class ClusterUnreachable(GuardError):
    """The API server could not be asked, or refused: the message says what, without a secret."""


class NameInvalid(ClusterUnreachable):
    """No object can have this name, so nothing was asked; the message shows the name."""


class ServerUnreachable(GuardError):
    """A guard's API could not be asked, or refused: the message says what, without a secret."""


class CertificateInvalid(GuardError):
    """A certificate or key file can't be used; the message names the file."""


class RenderImpossible(GuardError):
    """A VM's manifests can't be right; the message says why, and what would help."""


class ManifestInvalid(GuardError):
    """A manifest can't be read; the message names the file, and line and column if known."""


class PlanUnknown(GuardError):
    """There is no Plan of that name, or none at all; the message says where."""


class NothingJudged(GuardError):
    """There was no object that any rule is for, so nothing can be called good."""


class ProviderUnknown(GuardError):
    """No Provider is called as somebody asked; the message says which there are."""


class VmUnknown(GuardError):
    """No VM, or more than one, is what somebody asked for; the message says which may be meant."""
