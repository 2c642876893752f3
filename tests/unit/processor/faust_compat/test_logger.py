"""Our parts of Faust log its messages under its name, so that they can be told from ours."""

from collections.abc import Iterator

import mode

import processor.app  # noqa: F401 (imports every part)


def subclasses(cls: type[mode.Service]) -> Iterator[type[mode.Service]]:
    for each in cls.__subclasses__():
        yield each
        yield from subclasses(each)


def test_messages_of_mode_are_logged_under_its_name() -> None:
    own = {each for each in subclasses(mode.Service) if each.__module__.startswith("processor.")}
    assert len(own) > 3
    wrong = {
        each.__qualname__ for each in own if not each.logger.name.startswith(("mode", "faust"))
    }
    assert not wrong
