"""What of a dead letter may be sent again. Pure."""

import msgspec

from contract.dead_letter import A_ROW, WHOLE_FRAME
from contract.frame import FrameError, Submission, decode_frame, entity_key
from contract.kinds import KINDS, is_id
from contract.registry import RegistryState
from tobogganing.commands.letters import Letter

_decoder = msgspec.json.Decoder(Submission)


class StaysError(ValueError):
    """A letter, or a submission of it, that cannot be sent again; the text says why."""


def submissions_of(letter: Letter, value: bytes) -> list[Submission]:
    """Take a letter apart; `value` is all of its data.

    What has no timestamp of its own gets the append time that it had: so it never takes the place
    of newer data, however often it is sent.

    Raises:
        StaysError: it is nothing that can be sent.
    """
    if letter.origin.index == WHOLE_FRAME:
        try:
            frame = decode_frame(value)
        except FrameError as error:
            raise StaysError(str(error)) from None
        if frame.is_late(letter.origin.appended):
            raise StaysError("it came after its deadline, and was answered 503")
        found = frame.submissions
    elif letter.origin.index >= 0:
        try:
            found = [_decoder.decode(value)]
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise StaysError(f"not a submission: {error}") from None
    elif letter.origin.index == A_ROW:
        raise StaysError("it is a row, kept to be looked at")
    else:
        raise StaysError("it does not say where it comes from")
    for submission in found:
        if submission.timestamp is None:
            submission.timestamp = letter.origin.appended / 1000
    return found


def key_of(submission: Submission) -> bytes:
    """Key of the entity that a submission is about.

    Raises:
        StaysError: it is none known here.
    """
    if submission.kind not in KINDS or not is_id(submission.id):
        raise StaysError(f"{submission.kind}:{submission.id} is no entity known here")
    return entity_key(submission.kind, submission.id)


def check_registered(submission: Submission, registry: RegistryState) -> None:
    """Pass if the registration that a submission was made under still holds.

    The processor remembers a removal for as long as entities are kept, dead letters for longer:
    without this one of them could bring an entity back. A removal may always be sent again.

    Raises:
        StaysError: it does not.
    """
    key = key_of(submission)
    record = registry.get(key)
    if submission.removed:
        return
    if record is None:
        raise StaysError(f"{key.decode()} is not registered any more")
    if record.generation != submission.generation:
        raise StaysError(f"{key.decode()} was registered anew since")
