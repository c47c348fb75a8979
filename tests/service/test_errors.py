import pytest

from bootleg_bundle.errors import BootlegError, ImageError
from bootleg_service.errors import STATUS, ServiceError, StartupError


def leaves(root):
    below = root.__subclasses__()
    return {root}.union(*map(leaves, below))


@pytest.mark.parametrize("error", sorted(leaves(ServiceError) | leaves(ImageError), key=lambda e: e.__name__))
def test_every_error_that_a_request_can_meet_has_a_status(error):
    if error is StartupError:  # ends the process, never answers a request
        return
    assert error.code in STATUS


def test_faults_of_the_caller_are_4xx_and_ours_are_5xx():
    ours = {"overloaded", "unavailable", "deadline_exceeded", "decode_failed", "engine_error", "internal_error"}
    assert {code for code, status in STATUS.items() if status >= 500} == ours
    assert all(400 <= status < 600 for status in STATUS.values())


def test_codes_are_not_shared_between_errors_that_mean_different_things():
    # The client's errors carry the service's codes, by which it tells them apart.
    rooms = ("bootleg_bundle", "bootleg_service")
    errors = [error for error in leaves(BootlegError) if error.__module__.startswith(rooms)]
    codes = [error.code for error in errors if error not in (ServiceError, BootlegError)]
    assert len(codes) == len(set(codes))
