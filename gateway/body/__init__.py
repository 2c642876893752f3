"""Request bodies: bounded reading, decompression and JSON decoding."""
