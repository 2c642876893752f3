"""Clients of the gateway's API."""
