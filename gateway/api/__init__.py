"""The management API: registration, resources, tokens, keys, certificates, OpenAPI."""
