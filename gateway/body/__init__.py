"""Request bodies: read within limits, decompressed, decoded as JSON."""
