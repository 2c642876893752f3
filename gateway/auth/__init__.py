"""Authentication: API keys, tokens and their signing keys, certificates, rate limits."""
