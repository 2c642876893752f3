"""The credential model finds wrong responses."""

from tests.chaos.credential_model import Credential, CredentialModel

GOOD = Credential("clients/c/metrics", "good", "the new key of c")
BAD = Credential("clients/c/metrics", "bad", "the old key of c")


def test_only_valid_credentials_are_accepted() -> None:
    model = CredentialModel()
    model.valid = {GOOD: True, BAD: False}
    assert model.faults("g", {GOOD: 400, BAD: 401}) == []
    assert model.faults("g", {GOOD: 401, BAD: 400}) == [
        "g returns 401 for the new key of c, not 400",
        "g returns 400 for the old key of c, not 401",
    ]
    assert model.faults("g", {GOOD: 503}) == ["g returns 503 for the new key of c, not 400"]
