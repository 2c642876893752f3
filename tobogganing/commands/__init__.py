"""Commands over a gateway's API: what is registered, credentials, whole fleets."""
