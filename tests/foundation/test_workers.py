"""Worker processes do any work of arrays, and say what went wrong under the name that they were given."""

import operator
import pickle

import numpy as np
import pytest
from emuloss.errors import ArgumentError, DataError, FieldError
from emuloss.foundation.workers import Workers, taken


def test_any_function_that_others_can_import():
    fields = np.arange(24.0).reshape(6, 2, 2)
    with Workers(operator.add, 2, "a sum") as workers:
        np.testing.assert_array_equal(workers(fields, fields[::-1]), fields + fields[::-1])
        np.testing.assert_array_equal(workers(fields[:1], fields[:1]), 2 * fields[:1])
        assert workers(fields[:0], fields[:0]).shape == (0, 2, 2)


def test_work_that_fails_is_called_by_its_title():
    fields = np.arange(24.0).reshape(6, 2, 2)
    with Workers(np.linalg.inv, 2, "an inverse") as workers:
        fields[:, 0, 0] += 1
        np.testing.assert_allclose(workers(fields), np.linalg.inv(fields))
        fields[4] = 1
        fields[5] = 0
        with pytest.raises(FieldError, match=r"^field 4: an inverse raised LinAlgError: Singular matrix$"):
            workers(fields)


def test_work_that_cannot_be_sent():
    with pytest.raises(ArgumentError, match=r"^my work cannot be sent to worker processes \(.*define it in"):
        Workers(lambda fields: fields, 1, "my work")


class Unreadable:
    """Pickles, and cannot be built anew."""

    def __call__(self, fields):
        return fields

    def __reduce__(self):
        return int, ("no number",)


def test_work_that_cannot_be_received():
    with Workers(Unreadable(), 1, "my work") as workers:
        for _ in range(2):
            with pytest.raises(
                ArgumentError, match=r"^my work cannot be sent to worker processes \(ValueError"
            ):
                workers(np.ones((2, 4, 4)))


def test_work_that_ends_its_process():
    class Exits:
        def __reduce__(self):
            return exec, ("import os; os._exit(3)",)

        def __call__(self, fields):
            return fields

    with (
        Workers(Exits(), 1, "my work") as workers,
        pytest.raises(
            DataError, match=r"^the process that labelled field 0 with my work died \(exit code 3\)"
        ),
    ):
        workers(np.ones((1, 4, 4)))


def test_what_polls_ends_the_work():
    def stop():
        raise KeyboardInterrupt

    with Workers(operator.neg, 1, "work") as workers, pytest.raises(KeyboardInterrupt):
        workers(np.ones((2, 4, 4)), poll=stop)


def test_an_error_that_no_field_raises_alone_is_that_of_the_first():
    def fails_in_batches(fields):
        if len(fields) > 1:
            raise ValueError("too many")
        return fields

    found = taken(fails_in_batches, [np.ones((3, 2, 2))], "it")
    assert isinstance(found, FieldError)
    assert str(pickle.loads(pickle.dumps(found))) == "field 0: it raised ValueError: too many"
