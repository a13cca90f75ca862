"""Errors of the input end a command with one line."""

from input.errors import BadRecordError, InputError
from input.foundation.errors import UserError


def test_a_bad_record_says_where_it_is_and_what_to_do():
    error = BadRecordError("data/train-0.tfrecord", 7, 4096, "the checksum does not match")
    assert str(error) == (
        "Bad record: shard data/train-0.tfrecord, record 7, byte offset 4096: the checksum does "
        "not match. Write the records again, or allow some with --max_bad_records."
    )
    assert (error.shard, error.record, error.offset) == ("data/train-0.tfrecord", 7, 4096)
    assert error.reason == "the checksum does not match"


def test_errors_of_the_input_are_user_errors():
    assert issubclass(BadRecordError, InputError)
    assert issubclass(InputError, UserError)
    assert InputError.exit_code == BadRecordError.exit_code == 2
