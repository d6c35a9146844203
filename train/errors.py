"""The one exception of the training programs that is meant for a user's eyes.

Raise it with a text that says what was expected, what was found and what to do; a program prints that text alone.
"""


class RunError(Exception):
    """A mistake or mishap that the user can mend; the program prints its text without a traceback."""
