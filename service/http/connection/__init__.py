"""One HTTP/1 connection: parser, limits, fast path, request cycles."""
