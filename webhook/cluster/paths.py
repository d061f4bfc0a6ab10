"""Where something is on the API server: made here, of names that objects can have, and nowhere
else.

A name comes from whoever writes a Provider or a Plan. `..` or a slash in it would make the request
one for another namespace's objects, by the guard's own rights.
"""

import re

from webhook.errors import NameInvalid
from webhook.model.keys import DNS_LABEL, DNS_SUBDOMAIN, quoted

_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

FORKLIFT = "forklift.konveyor.io/v1beta1"


class ApiPath:
    """A kind's objects in the cluster or in a namespace, or one of them by its name.

    `api` is its group and version, or v1. Raises NameInvalid.
    """

    __slots__ = ("text",)

    def __init__(
        self, api: str, plural: str, *, namespace: str | None = None, name: str | None = None
    ) -> None:
        text = f"/apis/{api}" if "/" in api else f"/api/{api}"
        if namespace is not None:
            if not DNS_LABEL.fullmatch(namespace):
                raise NameInvalid(f"{quoted(namespace)} can't be the name of a namespace")
            text += f"/namespaces/{namespace}"
        text += f"/{plural}"
        if name is not None:
            if not DNS_SUBDOMAIN.fullmatch(name):
                raise NameInvalid(f"{quoted(name)} can't be the name of an object ({plural})")
            text += f"/{name}"
        self.text = text

    def __str__(self) -> str:
        return self.text


def labelled(**labels: str) -> str | None:
    """The selector of objects with just these labels; None where no label can have such a value,
    so that no object has it."""
    if not all(map(_VALUE.fullmatch, labels.values())):
        return None
    return ",".join(f"{key}={value}" for key, value in labels.items())
