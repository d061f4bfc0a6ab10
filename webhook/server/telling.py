"""What is told of each verdict beside its answer: counted, logged, and on the Plan of a Migration.

The log has what the answer says and what the rules only record. It never has an object.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator

from cachetools import TTLCache

from webhook.inventory.cluster import Announcer
from webhook.logs import log_line
from webhook.metrics import Metrics
from webhook.model.calls import Webhook
from webhook.model.review import JUDGED, Admitted, Cause, Denied, Review, Undecided, Verdict
from webhook.rules import RULES

SAME_SECONDS = 60.0
"""For which a finding of the same rule on the same object is not logged again."""
_KNOWN = 4096
_RULE_IDS = frozenset(rule.id for rule in RULES)

_log = logging.getLogger("webhook")


class Telling:
    """Tells of verdicts. `announcer` tells of refused Migrations; `now` is a clock in seconds."""

    def __init__(
        self,
        metrics: Metrics,
        announcer: Announcer | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics, self._announcer = metrics, announcer
        self._told: TTLCache[tuple[str, ...], bool] = TTLCache(_KNOWN, SAME_SECONDS, now)

    def tell(self, webhook: Webhook, review: Review, verdict: Verdict, seconds: float) -> None:
        """Of one that was answered within `seconds`."""
        kind = review.kind.kind if review.kind in JUDGED else "other"
        result = verdict.audit.get("verdict") or type(verdict).__name__.lower()
        self._metrics.reviewed(webhook, kind, review.operation, result, seconds)
        if isinstance(verdict, Admitted) and verdict.plain:
            return
        self._count(verdict)
        if not isinstance(verdict, Admitted):
            self._refused(review, verdict, seconds)
        if not isinstance(verdict, Undecided):
            self._found(review, verdict)
        if isinstance(verdict, Denied):
            self._announce(review, verdict)

    def _count(self, verdict: Verdict) -> None:
        """What is rarer than an admission without a word."""
        metrics = self._metrics
        if isinstance(verdict, Admitted):
            if verdict.skipped is not None:
                metrics.skipped(verdict.skipped)
            for default in verdict.filled:
                metrics.repaired(default)
        if not isinstance(verdict, Denied) and verdict.doubt is not None:
            metrics.undecided(verdict.doubt)
        if not isinstance(verdict, Undecided):
            for cause in verdict.findings:
                if cause.rule:
                    metrics.found(cause.rule, cause.action)

    def _refused(self, review: Review, verdict: Denied | Undecided, seconds: float) -> None:
        if isinstance(verdict, Denied):
            text = "; ".join(f"{cause.field}: {cause.message}" for cause in verdict.causes)
        else:
            text = verdict.message
        log_line(
            _log,
            type(verdict).__name__.lower(),
            **_of(review),
            rules=verdict.audit.get("rules", ""),
            text=text,
            ms=round(seconds * 1000, 1),
        )

    def _found(self, review: Review, verdict: Admitted | Denied) -> None:
        """What stands in nobody's way, for who rolls a rule out: by rule, for a long list has many
        findings of one."""
        milder = [cause for cause in verdict.findings if cause.rule and cause.action != "deny"]
        counted = Counter(cause.rule for cause in milder)
        for cause in _firsts(milder):
            if self._again(review, cause.rule):
                continue
            log_line(
                _log,
                "finding",
                **_of(review),
                rule=cause.rule,
                action=cause.action,
                count=counted[cause.rule],
                field=cause.field,
                text=cause.message,
            )
        for default in verdict.filled if isinstance(verdict, Admitted) else ():
            if not self._again(review, default):
                log_line(_log, "repair", **_of(review), default=default)

    def _again(self, review: Review, rule: str) -> bool:
        key = review.kind.kind, review.namespace, review.name, rule
        if key in self._told:
            return True
        self._told[key] = True
        return False

    def _announce(self, review: Review, verdict: Denied) -> None:
        """Tell of a refused Migration on its Plan, where the caller may speak of that, by its
        rules' ids: hints are for its author."""
        rules = {cause.rule for cause in verdict.causes}
        if self._announcer is None or verdict.plan is None or review.dry_run:
            return
        if rules <= _RULE_IDS:
            self._announcer.refused(*verdict.plan, tuple(sorted(rules)))


def _firsts(causes: list[Cause]) -> Iterator[Cause]:
    """The first of each rule."""
    seen = set()
    for cause in causes:
        if cause.rule not in seen:
            seen.add(cause.rule)
            yield cause


def _of(review: Review) -> dict[str, str | float]:
    return {
        "uid": review.uid,
        "kind": str(review.kind),
        "operation": review.operation,
        "object": f"{review.namespace}/{review.name}",
        "user": review.user.username,
        "dryRun": review.dry_run,
    }
