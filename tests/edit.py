"""Edit the script's constants as its reader would, for the tests and the benchmark."""

import re


def edit_constants(source, constants):
    """The source with the one-line assignment of each constant replaced."""
    for name, value in constants.items():
        source, count = re.subn(
            rf"^{name} = .*$",
            lambda _, n=name, v=value: f"{n} = {v!r}",
            source,
            flags=re.MULTILINE,
        )
        assert count == 1, f"{name} is assigned on {count} lines"
    return source
