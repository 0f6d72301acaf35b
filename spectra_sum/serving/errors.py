"""What the server refuses, in OpenAI's shape: one sentence, and never a traceback, a path or another request's data."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "server_error",
    504: "timeout_error",
    500: "server_error",
}
# What Starlette says of these is a status's name.
_SENTENCES = {
    404: "There is no such address; /docs shows those that there are.",
    405: "This address does not take this method; /docs shows those that it takes.",
}


class ApiError(Exception):
    """
    An answer other than a summary.

    Args:
        status (`int`): The HTTP status.
        message (`str`): One sentence that names the field and the fix.
        param (`str`, *optional*): The field, as `options.length`.
        code (`str`, *optional*): A name for programs, as `queue_full`.
        headers (`Mapping[str, str]`, *optional*): Further headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body, self.status, self.headers)


def answer_errors(app: FastAPI) -> None:
    """Lets the app answer what is raised in this shape."""

    async def answer(request: Request, error: ApiError | HTTPException) -> JSONResponse:
        if isinstance(error, HTTPException):
            message = _SENTENCES.get(error.status_code, str(error.detail))
            error = ApiError(error.status_code, message, headers=error.headers)
        return error.response()

    app.add_exception_handler(ApiError, answer)
    app.add_exception_handler(HTTPException, answer)
