"""The options of a request over those that the server was started with, and the summarizer that has them."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...summaries.options import OptionsError, SummaryOptions
from ..errors import ApiError
from ..jobs import SummarizesWatched
from ..settings import Settings
from .shapes import RequestOptions

_KEPT = 64
_SAMPLING = ("temperature", "top_p", "seed")


class Summarizers:
    """
    A summarizer for each combination of options, over one model; those that were used last are kept.

    Args:
        make (`Callable[[SummaryOptions], SummarizesWatched]`): Makes one; quick, as the model is loaded.
        defaults (`SummaryOptions`): Of requests that name none.
        settings (`Settings`): What they may ask for.
    """

    def __init__(
        self, make: Callable[[SummaryOptions], SummarizesWatched], defaults: SummaryOptions, settings: Settings
    ):
        self._make = make
        self._defaults = defaults
        self._settings = settings
        self._made: OrderedDict[SummaryOptions, SummarizesWatched] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, sent: RequestOptions) -> SummarizesWatched:
        """
        The summarizer for a request.

        Raises:
            ApiError: 400, its options contradict each other or the model, or ask for more than is allowed.
        """
        for name, most in (("max_new_tokens", self._settings.new_tokens), ("num_beams", self._settings.beams)):
            value = getattr(sent, name)
            if value is not None and value > most:
                raise ApiError(400, f"options.{name}: at most {most:,}.", param=f"options.{name}", code="too_large")
        try:
            options = replace(self._defaults, **self._over_defaults(sent))
            with self._lock:
                if options not in self._made:
                    self._made[options] = self._make(options)
                self._made.move_to_end(options)
                while len(self._made) > _KEPT:
                    self._made.popitem(last=False)
                return self._made[options]
        except OptionsError as error:
            named = re.search(r"`(\w+)`", str(error))
            param = f"options.{named[1]}" if named else "options"
            raise ApiError(400, str(error).replace("`", ""), param=param, code="invalid_options") from None

    def _over_defaults(self, sent: RequestOptions) -> dict[str, Any]:
        values = sent.model_dump(exclude_none=True)
        # A default that belongs to what the request replaces goes with it.
        if "length" in values:
            values.setdefault("max_new_tokens", None)
        if values.get("do_sample") is False:
            values.update({name: values.get(name) for name in _SAMPLING})
        if values.get("select", "vrp") != "vrp":
            values.setdefault("threshold", None)
        return values
