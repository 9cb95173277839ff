"""Two judgements of one predicted text: exactly right, and right as far as it goes."""


def exact_match(prediction: str, gold: str) -> bool:
    """Whether the prediction is the gold text and nothing more.

    prediction.strip() == gold.strip(). White space around the texts is ignored, white space and
    letter case inside them count.

    Raises:
        ValueError: the gold text is empty, or white space only.
    """
    return prediction.strip() == _stripped_gold(gold)


def prefix_match(prediction: str, gold: str) -> bool:
    """Whether the prediction begins with the gold text, whatever follows it.

    prediction.strip().startswith(gold.strip()): right content from a model that may not have
    stopped in time. Every exact match is a prefix match; an empty prediction is never one. Nothing
    asks for a word boundary after the gold text, so "ab" followed by "c" is a match for "ab".

    Raises:
        ValueError: the gold text is empty, or white space only; every prediction begins with it.
    """
    return prediction.strip().startswith(_stripped_gold(gold))


def _stripped_gold(gold: str) -> str:
    stripped = gold.strip()
    if not stripped:
        raise ValueError(f"gold must hold more than white space, got {gold!r}")
    return stripped
