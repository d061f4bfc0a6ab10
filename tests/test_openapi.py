"""The REST API against its own committed OpenAPI: made-up requests, right ones and wrong ones.

The seed is in the report; SCHEMATHESIS_SEED runs the same requests again, SCHEMATHESIS_EXAMPLES
says how many of each call (default 40).
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tests.test_api import PLAN, Api, serving

SEED = int(os.environ.get("SCHEMATHESIS_SEED", random.randrange(2**32)))
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", 40))
DOCUMENT = Path(__file__).parents[1] / "docs" / "openapi.json"

# A stream doesn't end: tests/test_stream.py.
schema = schemathesis.openapi.from_path(str(DOCUMENT)).exclude(path="/api/v1/readiness")
# The token below is sent instead: a request that is wrong only for want of one is right then.
schema.config.generation.update(with_security_parameters=False)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(tmp_path_factory.mktemp("api")) as api:
        place = f"{PLAN['metadata']['namespace']}/{PLAN['metadata']['name']}"
        api.cluster.plans = {place: PLAN}
        yield api


@schema.parametrize()
@seed(SEED)
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Any, api: Api) -> None:
    print(f"SCHEMATHESIS_SEED={SEED}")
    # No schema can say which values of `continue` a list has told.
    made_up = bool((case.query or {}).get("continue"))
    case.call_and_validate(
        base_url=api.guard.api_url,
        headers={"Authorization": "Bearer token-all"},
        verify=str(api.guard.ca_file),
        # tests/test_api.py does
        excluded_checks=[ignored_auth, *([positive_data_acceptance] if made_up else [])],
    )
