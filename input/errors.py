"""What can be wrong with the input, said in one line that names the thing and the way out."""

from input.foundation.errors import UserError


class InputError(UserError):
    """A setting, file or folder of the input is wrong; the message is all a user needs."""


class BadRecordError(InputError):
    """One record cannot be used: where it is and why."""

    def __init__(
        self,
        shard: str,
        record: int,
        offset: int,
        reason: str,
        way_out: str = "Write the records again",
        source: str = "",
    ):
        """source: the file that the record was made from, where that is known."""
        made_from = f", made from {source}" if source else ""
        super().__init__(
            f"Bad record: shard {shard}, record {record}, byte offset {offset}{made_from}: "
            f"{reason}. {way_out}, or allow some with --max_bad_records."
        )
        self.shard = shard
        self.record = record
        self.offset = offset
        self.reason = reason
