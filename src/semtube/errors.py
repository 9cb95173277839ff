"""What a user did wrong, said in one sentence."""


class UserError(ValueError):
    """Bad input: the message says what was wrong, where, and what would be right.

    The command line prints the message without a traceback and exits with status 2.
    """
