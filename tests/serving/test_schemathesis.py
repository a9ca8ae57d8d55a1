"""Whatever the description of the service allows, and what it does not: no answer is a fault of the service."""

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from services import LOCAL, folder, pngs

from unlike.serving.app import create_app
from unlike.serving.jobs import runner
from unlike.serving.settings import ServeSettings

schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = 4  # of each endpoint


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_request_makes_a_fault(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.Jobs, "_work", lambda self: None)
    app = create_app(ServeSettings(folder, images=tmp_path / "images"))
    with TestClient(app, base_url="http://127.0.0.1", client=LOCAL, raise_server_exceptions=False) as client:
        client.post("/detectors/cells/score", files={"file": ("a.png", pngs()[0])})
        schema = schemathesis.openapi.from_dict(app.openapi())
        tried, statuses = [], set()
        for result in schema.get_all_operations():
            operation = result.ok()
            tried.append(operation.label)
            _try(client, operation, statuses)
    assert len(tried) > 30
    assert {200, 404, 422} <= statuses


def _try(client, operation, statuses):
    import requests
    from hypothesis import given

    @given(case=operation.as_strategy())
    @hypothesis_settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def check(case):
        if case.operation.path == "/users" and case.operation.method.upper() == "POST":
            case.body = (
                {**case.body, "role": "viewer"} if isinstance(case.body, dict) else case.body
            )  # or nobody is local any more
        sent = case.as_transport_kwargs(base_url="http://127.0.0.1")
        made = requests.Request(**sent).prepare()
        answer = client.request(made.method, made.url, headers=dict(made.headers), content=made.body)
        statuses.add(answer.status_code)
        assert answer.status_code != 500, f"{operation.label}: {sent}\n{answer.text}"
        assert answer.status_code < 500 or answer.status_code == 503, f"{operation.label}: {answer.status_code}"

    check()
