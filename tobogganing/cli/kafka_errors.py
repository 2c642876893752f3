"""Errors of Kafka as one sentence that says what to do."""

from aiokafka import errors

from service.kafka.clients import is_temporary

_REFUSED_CREDENTIALS = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_REFUSED_REQUESTS = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)
_UNREACHABLE = (
    errors.KafkaConnectionError,
    errors.NodeNotReadyError,
    errors.NoBrokersAvailable,
    ConnectionError,
)
_UNAVAILABLE = (errors.KafkaUnavailableError, TimeoutError)


def sentence(error: Exception, servers: str) -> str:
    """Return what went wrong with Kafka at `servers`, and what the user can do."""
    kafka = f"Kafka at {servers}"
    if isinstance(error, _REFUSED_CREDENTIALS):
        return f"{kafka} refuses the credentials: set KAFKA_SASL_… as for the services"
    if isinstance(error, _REFUSED_REQUESTS):
        return f"{kafka} does not allow this user to do this ({_reason(error)}): see its ACLs"
    if isinstance(error, _UNREACHABLE):
        return f"{kafka} did not respond: check KAFKA_BOOTSTRAP_SERVERS, and that the brokers run"
    is_kafkas = isinstance(error, errors.KafkaError)
    if isinstance(error, _UNAVAILABLE) or (is_kafkas and is_temporary(error)):
        return f"{kafka} did not respond in time, or has no leader for now: repeat the command"
    return f"{kafka} did not respond as expected: {_reason(error)}"


def _reason(error: Exception) -> str:
    description = getattr(error, "description", "").strip(" .")
    texts = [str(each).strip(" .") for each in error.args]
    return description or "; ".join(text for text in texts if text) or type(error).__name__
