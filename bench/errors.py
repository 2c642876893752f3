"""The error that ends a benchmark without figures."""


class WrongResultError(Exception):
    """A submission was lost, or a response or scrape is wrong: the run gives no figures."""
