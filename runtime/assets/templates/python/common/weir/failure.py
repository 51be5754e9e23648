"""Why an item fails."""


class Failure(Exception):
    """Raised by an author who knows: a stable code for machines (`missing-field`) and a message for people."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code
        self.message = message
