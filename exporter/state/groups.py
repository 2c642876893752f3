"""Label values of few distinct combinations, each stored as a code of two bytes. Pure."""

from collections.abc import Sequence

from contract.kinds import OTHER_GROUP, replace_refused
from contract.total import Group

MAX_CODES = 60_000
"""Maximum number of combinations; entities with further ones are in the group OTHER_GROUP."""


class GroupCodes:
    """The combinations of some labels' values; code 0 is that without any value."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self.groups: list[Group] = [("",) * len(self.labels)]
        """The combination of each code, with forbidden characters replaced."""
        self.known: dict[Group, int] = {self.groups[0]: 0}

    def code(self, group: Group) -> int:
        """Return the code of a combination."""
        code = self.known.get(group)
        return self._new_code(group) if code is None else code

    def _new_code(self, group: Group) -> int:
        shown = tuple(map(replace_refused, group))
        if shown not in self.known and len(self.groups) >= MAX_CODES:
            shown = (OTHER_GROUP,) * len(self.labels)
        code = self.known.setdefault(shown, len(self.groups))
        if code == len(self.groups):
            self.groups.append(shown)
        if shown != group and len(self.known) < 2 * MAX_CODES:
            self.known[group] = code
        return code
