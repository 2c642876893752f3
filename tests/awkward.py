"""Awkward names: what a name may have in it, and what it may not."""

ALLOWED = (
    'quotes " and \' and \\ backslashes \\n \\" \\\\',
    "} {} , = # HELP x y",
    " leading and trailing ",
    "emoji \U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "combining e\u0301 \u0644\u0651",
    "right to left \u200f\u202e\u05d0\u05d1\u202c\u2066x\u2069",
    "no-break \u00a0\u202f\u2007\u2060 space",
    "\ufeffbyte order mark",
    "zero \u200bwidth\u00ad",
    "\ufffd\ufffe\uffff\U0010ffff",
    "private \ue000",
    "\u3000ideographic space\u1680",
    "NaN",
    "1",
    "x" * 255,
    "\U0001f600" * 255,
)
"""Names that are accepted; each is one line to every reader."""

LINE_SEPARATORS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""All characters at which str.splitlines splits."""

REFUSED = (*LINE_SEPARATORS, "\0", "\t", "\x1b", "\x1f", "\x7f", "\x80", "\x9f")
"""Characters that no name may have in it."""
