"""The vendors' REST API: what vSphere says, and a verdict before the cluster gives one.

It has a listener of its own, and trusts nobody but the API server's word on a bearer token.
"""

from webhook.api.gate import app
from webhook.api.routes import BODY_LIMIT, openapi

__all__ = ["BODY_LIMIT", "app", "openapi"]
