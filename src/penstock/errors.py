"""Exceptions for what a user can mend: a file, a line, an argument."""


class InputError(ValueError):
    """A mistake in what the user gave: one sentence naming the file, line or argument, expected and got.

    The command line prints the sentence and exits with code 2; every other exception is a bug of ours and
    keeps its traceback.
    """


class DivergedError(InputError):
    """The loss of a training, or its gradient, is no longer a finite number."""
