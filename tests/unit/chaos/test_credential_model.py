"""The credential model finds wrong responses."""

from tests.chaos.credential_model import Credential, CredentialModel

GOOD = Credential("clients/c/metrics", "good", "the new key of c")
BAD = Credential("clients/c/metrics", "bad", "the old key of c")


def test_only_valid_credentials_are_accepted() -> None:
    model = CredentialModel()
    model.valid = {GOOD: True, BAD: False}
    assert model.faults("g", {GOOD: 400, BAD: 401}) == []
    assert model.faults("g", {GOOD: 401, BAD: 400}) == [
        "g answers 401 to the new key of c, not 400",
        "g answers 400 to the old key of c, not 401",
    ]
    assert model.faults("g", {GOOD: 503}) == ["g answers 503 to the new key of c, not 400"]
