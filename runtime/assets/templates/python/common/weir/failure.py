"""The reason why an item fails."""


class Failure(Exception):
    """An exception with a stable code for machines (`missing-field`) and a message for people."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code
        self.message = message
