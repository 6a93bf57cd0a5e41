"""The one way in which a request is refused."""
from adapter_bert.errors import InputError


class Refusal(InputError):
    """What the server will not do, and the HTTP status that says so.

    Attributes:
      status: 4xx for a request that is wrong, 503 where another try may do.
      headers: {name: value} of the answer.
    """

    def __init__(self, message, status=400, headers=None):
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def busy(message):
    """The Refusal of a request that may come again in a second."""
    return Refusal(message, 503, {"Retry-After": "1"})
