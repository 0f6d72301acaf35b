"""What was kept of the books, what was not, and why."""

from collections import Counter
from dataclasses import dataclass, field

from spectra_sum.documents.parts import printable

MAX_EXAMPLES = 20
# Modules, then figures, by why they are no section and no figure of one.
MODULE_REASONS = {
    "no_summary": "without a summary at their end",
    "no_text": "without a title or text",
    "other_licence": "under another licence",
    "read_before": "that stand in another book, too, and were read there",
    "broken_module": "that cannot be read",
}
FIGURE_REASONS = {
    "foreign": "under somebody else's copyright, or not for all uses",
    "repeated": "shown before in their section",
    "no_image": "without an image file (videos, tables)",
    "remote": "on another computer",
    "outside": "whose path leads out of the checkout",
    "missing": "whose file is missing",
    "broken": "whose file cannot be decoded",
}
# What an intact checkout does not have: each is named.
_DAMAGE = {"broken_module", "outside", "missing", "broken"}


@dataclass
class Counts:
    """
    Counts by kind, and where the damage is.

    Args:
        kept (`Counter`): `sections`, `figures`, `captions`, `alt_texts`, `share_alike` (figures of such a licence).
        left_out (`Counter`): By `MODULE_REASONS` and `FIGURE_REASONS`.
        damage (`list[str]`): Each damaged module and figure: its place, and what is wrong.
    """

    kept: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, place: str, detail: str = "") -> None:
        """Counts a module or figure that is left out, and notes it if it is damaged."""
        self.left_out[reason] += 1
        if reason in _DAMAGE:
            what = detail or (MODULE_REASONS | FIGURE_REASONS)[reason]
            self.damage.append(printable(f"{place}: {what}"))

    def lines(self) -> list[str]:
        """The counts for a reader."""
        kept = self.kept
        texts = f"{kept['captions']:,} with a caption, {kept['alt_texts']:,} with an alternative text"
        figures = f"{kept['figures']:,} figures, {texts}"
        if kept["share_alike"]:
            figures += f"; {kept['share_alike']:,} under a share-alike licence of their own (see their credit)"
        lines = [f"{kept['sections']:,} sections; {figures}"]
        for what, reasons in (("modules", MODULE_REASONS), ("figures", FIGURE_REASONS)):
            found = [f"{self.left_out[reason]:,} {text}" for reason, text in reasons.items() if self.left_out[reason]]
            if found:
                lines.append(f"{what} left out: {'; '.join(found)}")
        return lines
