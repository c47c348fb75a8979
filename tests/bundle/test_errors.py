import inspect
import re

from bootleg_bundle import errors

CLASSES = {
    name: value for name, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__
}


def test_the_tree_in_the_docstring_is_the_tree_in_the_code():
    drawn = dict(re.findall(r"[├└]── (\w+)(?: \(ValueError\))?\s+([a-z_]+)", errors.__doc__))
    del drawn["ServiceError"]  # lives in bootleg_service.errors
    assert drawn == {name: value.code for name, value in CLASSES.items() if name != "BootlegError"}


def test_every_error_has_a_code_of_its_own():
    codes = [value.code for value in CLASSES.values()]
    assert len(codes) == len(set(codes))


def test_every_error_is_a_bootleg_error_and_keeps_its_message():
    for value in CLASSES.values():
        error = value("what happened")
        assert isinstance(error, errors.BootlegError)
        assert error.message == str(error) == "what happened"


def test_errors_drawn_as_value_errors_are_value_errors():
    for name in re.findall(r"── (\w+) \(ValueError\)", errors.__doc__):
        assert issubclass(CLASSES[name], ValueError)
