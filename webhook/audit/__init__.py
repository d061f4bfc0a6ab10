"""The guard keeps watching: what is on the cluster is judged again when something of it changes.

`watch` knows what is to be judged again and when. `judging` judges it as a reader of its namespace
may know it. `book` keeps what came of it, and `publishing` tells. `auditor` runs it all in the one
replica that holds the Lease.
"""

from webhook.audit.auditor import Auditor

__all__ = ["Auditor"]
