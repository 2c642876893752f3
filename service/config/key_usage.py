"""The key usage of a certificate (RFC 5280, 4.2.1.3)."""

from cryptography import x509

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def key_usage(*usages: str) -> x509.KeyUsage:
    """The extension that allows `usages` and nothing else."""
    return x509.KeyUsage(**{usage: usage in usages for usage in _USAGES})
