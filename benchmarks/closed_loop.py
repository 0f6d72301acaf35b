"""A bounded load on loopback: clients that each send their next request when the last one is answered."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import numpy as np

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Answer:
    """
    What became of a request.

    Attributes:
        status (`int`): Of HTTP; 0 where the connection failed or the stream ended before its summary.
        seconds (`float`): From sending it to the end of its answer.
        first_text (`float`, *optional*): Seconds to the first text of its stream.
        error (`str`, *optional*): What the server said where the status is another one than 200, or what failed.
    """

    status: int
    seconds: float
    first_text: float | None
    error: str | None = None


def run_clients(
    url: str,
    bodies: Sequence[Mapping[str, Any]],
    *,
    clients: int,
    requests: int,
    timeout: float,
    answered: Callable[[Answer], None] = lambda answer: None,
) -> tuple[list[Answer], float]:
    """
    Sends requests to `/v1/summarize`, as streams.

    Args:
        url (`str`): Of a server on loopback.
        bodies (`Sequence[Mapping[str, Any]]`): The JSON of requests, taken in turn.
        clients (`int`): Requests that are on their way at a time.
        requests (`int`): Requests in all.
        timeout (`float`): Seconds for one.
        answered (`Callable[[Answer], None]`, *optional*): Is told of each answer, one at a time.

    Returns:
        `tuple[list[Answer], float]`: The answers in the order in which they came, and the seconds of it all.

    Raises:
        ValueError: The server is not on this machine.
    """
    if httpx.URL(url).host not in LOOPBACK:
        raise ValueError(f"{url}: the load goes to servers on loopback alone.")
    numbers, lock, answers = count(), threading.Lock(), []

    def work() -> None:
        with httpx.Client(base_url=url, timeout=timeout) as client:
            while (number := next(numbers)) < requests:
                answer = ask(client, bodies[number % len(bodies)])
                with lock:
                    answers.append(answer)
                    answered(answer)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, time.perf_counter() - started


def ask(client: httpx.Client, body: Mapping[str, Any]) -> Answer:
    """One request, whose stream is read to its end."""
    started = time.perf_counter()
    event, first, complete, status, error = "", None, False, 0, None
    try:
        with client.stream("POST", "/v1/summarize", json={**body, "stream": True}) as response:
            status = response.status_code
            if status != 200:
                error = response.read().decode(errors="replace")[:300]
            for line in response.iter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif event == "text" and first is None and line.startswith("data: "):
                    if json.loads(line.removeprefix("data: "))["text"].strip():
                        first = time.perf_counter() - started
                complete |= event == "summary"
    except httpx.HTTPError as failure:
        status, error = 0, repr(failure)
    if status == 200 and not complete:
        status, error = 0, f"the stream ended after {event!r}"
    return Answer(status, time.perf_counter() - started, first, error)


def figures(answers: Sequence[Answer], seconds: float) -> dict[str, Any]:
    """
    What a load shows.

    Returns:
        `dict`: `requests`, `errors` (answers that are not 200) with the `first_error`, `per_second`, and of the answers of
        200 the percentiles of `seconds` and of `first_text`: `p50`, `p95`, `p99`; None without any.
    """
    good = [answer for answer in answers if answer.status == 200]

    def percentiles(values: Sequence[float]) -> dict[str, float] | None:
        if not values:
            return None
        return {f"p{share}": float(np.percentile(values, share)) for share in (50, 95, 99)}

    return {
        "requests": len(answers),
        "errors": len(answers) - len(good),
        "first_error": next((answer.error for answer in answers if answer.status != 200), None),
        "per_second": len(good) / seconds,
        "seconds": percentiles([answer.seconds for answer in good]),
        "first_text": percentiles([answer.first_text for answer in good if answer.first_text is not None]),
    }
