"""The one kind of error whose message alone tells the user what to do."""


class UserError(ValueError):
    """Something that the user can put right: a setting, a file's content, data, a missing package.

    Its message is one line with the bad value, what is allowed, and what to do. Command lines print that line without a
    traceback. An error of any other class, but of the file system, is a bug, and shows its traceback.
    """
