"""The closed world's words: the values of its text facts, and the templates of articles, summaries and captions."""

import numpy as np

CITIES = tuple(
    "Oslo Paris Rome Berlin Madrid Lisbon Vienna Prague Dublin Athens Cairo Lagos Nairobi Delhi Tokyo Seoul Lima "
    "Quito Boston Denver Toronto Sydney Perth Dakar".split()
)
PERSONS = tuple(
    "Anna Bruno Carla David Elena Felix Grace Hugo Irene Jonas Karen Leo Maria Nils Olga Pablo Rosa Simon Tara Victor "
    "Wanda Xavier Yara Zoe".split()
)
NUMBERS = tuple(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy".split()
)

CAPTIONS = {
    "trend": "The chart shows {group} {value} over the year.",
    "setting": "The picture shows the {group} {value} store.",
    "count": "The sign shows {group} {value} dots by the door.",
}
FAR_CAPTIONS = {
    "trend": "The chart shows {value} sales over the year for {group}.",
    "setting": "The picture shows a {value} store that belongs to {group}.",
}
"""The value stands before its key, the group's name, which closes the clause."""

SUMMARY = "The {company} of {city} hired {person} and opened {number} stores."
_TITLES = (
    "News from the {company}",
    "What the {company} did this week",
    "The {company} in the news",
)
_OPENINGS = (
    "The {company} told reporters on Monday what comes next for its people and its shops.",
    "The {company} has shared its plan for the new season with all of its partners.",
    "The {company} gave a long interview about its work to a local paper this week.",
)
# A fact follows the same word in body and summary ("hired Maria"), as in news text: a small model can copy it.
_CITY_SENTENCES = (
    "Its main office stands in the old part of {city} near the station.",
    "The company is known as one of the oldest employers of {city} and its region.",
)
_PERSON_SENTENCES = (
    "To lead the sales team from next month on the company hired {person} from a rival.",
    "After a long search for a new director the board hired {person} in the end.",
)
_NUMBER_SENTENCES = (
    "Since last year the {company} has opened {number} stores in other towns.",
    "With its partners the {company} opened {number} stores this season.",
)
_FILLERS = (
    "Readers can find the figures and the pictures of the day beside this text.",
    "Several experts said that the market is hard to read at the moment.",
    "Customers were asked for their opinion and gave many different answers.",
    "A spokesman did not want to comment on the plans of other companies.",
    "Workers met after the announcement and talked about the coming months.",
    "The next report will be published at the end of the quarter.",
    "Some of the partners have worked with the company for a long time.",
    "The owners thanked everyone who had helped to make the project possible.",
)


def company_name(groups: list[str]) -> str:
    """What an article is about: ``"red group"``, or ``"red and blue alliance"`` for two groups."""
    return f"{groups[0]} group" if len(groups) == 1 else f"{' and '.join(groups)} alliance"


def draft_text(generator: np.random.Generator) -> tuple[str, str]:
    """Templates of a title and a body, with the fields company, city, person and number."""

    def pick(sentences: tuple[str, ...]) -> str:
        return sentences[int(generator.integers(len(sentences)))]

    middle = [pick(_CITY_SENTENCES), pick(_PERSON_SENTENCES), pick(_NUMBER_SENTENCES)]
    middle += [_FILLERS[index] for index in generator.permutation(len(_FILLERS))[:2].tolist()]
    body = [pick(_OPENINGS)] + [middle[index] for index in generator.permutation(len(middle)).tolist()]
    return pick(_TITLES), " ".join(body)
