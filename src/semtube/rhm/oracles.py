"""The best any learner can do: exact conditional distributions by message passing on the tree.

Shapes: P strings, N = s^(L-l) nodes of level l, T = s^L tokens, v symbols, m rules, s children.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from semtube.errors import UserError
from semtube.rhm.grammar import Grammar

#: Numbers held at a time for the rules of one level: bounds the memory beside the results.
_CHUNK_NUMBERS = 1 << 22


@dataclass(frozen=True)
class Posterior:
    """What a context says.

    Attributes:
        levels: levels[l] (P, N, v) P[symbol | observed tokens] at every node; an observed token
            has all its mass on itself.
        log_evidence: (P,) natural logarithm of the probability of the observed tokens.
    """

    levels: list[np.ndarray]
    log_evidence: np.ndarray


def posterior(grammar: Grammar, tokens: np.ndarray, observed: np.ndarray) -> Posterior:
    """Exact distribution of every token and latent given some tokens.

    Upward, u(a) = 1/m sum_j prod_t u_t(rule_j(a)_t), the probability of what is observed below a
    node that is a; downward, d_t(z) = sum_{a, j: rule_j(a)_t = z} d(a) / m prod_{t' != t}
    u_t'(rule_j(a)_t'), the rest of the string; the posterior is their normalised product.

    Args:
        tokens: (P, T); what stands at unobserved places is not read.
        observed: (T,) or (P, T), True where the token is seen.

    Raises:
        UserError: the observed tokens cannot stand in one string of this grammar.
        ValueError: other shapes.
    """
    parts = [
        _posterior(grammar, *chunk)
        for chunk in _chunks(grammar, *_checked(grammar, tokens, observed))
    ]
    return Posterior(
        [np.concatenate(level) for level in zip(*(part.levels for part in parts), strict=True)],
        np.concatenate([part.log_evidence for part in parts]),
    )


def next_token_probabilities(grammar: Grammar, tokens: np.ndarray) -> np.ndarray:
    """(P, T, v) P[x_i | x_0 .. x_{i-1}] at every place i; at 0 the marginal.

    Raises:
        UserError: a string that is not of this grammar.
    """
    places = np.arange(grammar.num_tokens)
    columns = [
        posterior(grammar, tokens, places < place).levels[0][:, place] for place in places.tolist()
    ]
    return np.stack(columns, axis=1)


def masked_token_probabilities(grammar: Grammar, tokens: np.ndarray) -> np.ndarray:
    """(P, T, v) P[x_i | all other tokens] at every place i.

    Raises:
        UserError: a string that is not of this grammar.
    """
    places = np.arange(grammar.num_tokens)
    columns = [
        posterior(grammar, tokens, places != place).levels[0][:, place] for place in places.tolist()
    ]
    return np.stack(columns, axis=1)


def root_probabilities(grammar: Grammar, tokens: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """(P, v) P[root | observed tokens]; one root has all of it when all tokens are seen."""
    return posterior(grammar, tokens, observed).levels[-1][:, 0]


@dataclass(frozen=True)
class BayesScore:
    """The best expected accuracy and the least expected loss, over the given contexts.

    Exact if the contexts are those of all strings, an estimate without bias if they are a sample.

    Attributes:
        accuracy: mean of the largest probability; a share of 1.
        entropy: mean entropy in nats, the least cross-entropy loss.
        accuracy_error, entropy_error: standard errors over strings, for a sample.
    """

    accuracy: float
    entropy: float
    accuracy_error: float
    entropy_error: float


def bayes_score(probabilities: np.ndarray) -> BayesScore:
    """Score of the best predictor.

    Args:
        probabilities: (P, ..., v), averaged over the middle axes of a string first.
    """
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    best = probabilities.max(-1).reshape(len(probabilities), -1).mean(1)
    entropies = -(probabilities * logs).sum(-1).reshape(len(probabilities), -1).mean(1)
    error = 1 / np.sqrt(max(len(best) - 1, 1))
    return BayesScore(
        accuracy=float(best.mean()),
        entropy=float(entropies.mean()),
        accuracy_error=float(best.std() * error),
        entropy_error=float(entropies.std() * error),
    )


def _posterior(grammar: Grammar, tokens: np.ndarray, observed: np.ndarray) -> Posterior:
    upward, log_evidence = _upward(grammar, tokens, observed)
    levels = [np.empty(0)] * (grammar.depth + 1)
    downward = np.full((len(tokens), 1, grammar.num_features), 1 / grammar.num_features)
    for level in range(grammar.depth, -1, -1):
        levels[level] = _normalised(upward[level] * downward)[0]
        if level:
            downward = _downward(grammar.rules[level - 1], downward, upward[level - 1])
    return Posterior(levels, log_evidence)


def _upward(
    grammar: Grammar, tokens: np.ndarray, observed: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Messages u of every level, each scaled to sum to 1, and the log evidence."""
    seen = tokens[..., None] == np.arange(grammar.num_features)
    messages = [np.where(observed[..., None], seen, 1.0)]
    log_evidence = np.zeros(len(tokens))
    for level, rules_VMS in enumerate(grammar.rules):
        products_PNVM = np.prod(_of_children(rules_VMS, messages[-1]), axis=0)
        scaled, sums = _normalised(products_PNVM.mean(-1))
        if (sums == 0).any():
            string, place = np.argwhere(sums == 0)[0]
            raise UserError(
                f"string {string} of the context: the observed tokens below node {place} of level "
                f"{level + 1} cannot stand together in this grammar"
            )
        messages.append(scaled)
        log_evidence += np.log(sums).sum(1)
    # The root's message was scaled to sum to 1; its prior is uniform.
    log_evidence += np.log(1 / grammar.num_features)
    return messages, log_evidence


def _downward(
    rules_VMS: np.ndarray, downward_PNV: np.ndarray, upward_PNV: np.ndarray
) -> np.ndarray:
    """Messages d of the level below, (P, N s, v), each scaled to sum to 1."""
    num_features, num_synonyms, branching = rules_VMS.shape
    factors = _of_children(rules_VMS, upward_PNV)
    strings, nodes = downward_PNV.shape[:2]
    out = np.empty((strings, nodes, branching, num_features))
    for t in range(branching):
        others = np.prod([factors[q] for q in range(branching) if q != t], axis=0)
        weights = (others * downward_PNV[..., None]).reshape(strings * nodes, -1)
        places = np.zeros((num_features * num_synonyms, num_features))
        places[np.arange(len(places)), rules_VMS[..., t].ravel()] = 1
        out[:, :, t] = (weights @ places).reshape(strings, nodes, num_features)
    return _normalised(out.reshape(strings, nodes * branching, num_features))[0]


def _of_children(rules_VMS: np.ndarray, messages_PNV: np.ndarray) -> list[np.ndarray]:
    """For each child t the (P, N, v, m) message of the symbol that each rule puts there."""
    strings, _, num_features = messages_PNV.shape
    branching = rules_VMS.shape[2]
    children = messages_PNV.reshape(strings, -1, branching, num_features)
    return [children[:, :, t][..., rules_VMS[..., t]] for t in range(branching)]


def _normalised(messages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scaled to sum to 1 over the last axis (zeros stay), and the sums."""
    sums = messages.sum(-1)
    return messages / np.where(sums == 0, 1, sums)[..., None], sums


def _checked(
    grammar: Grammar, tokens: np.ndarray, observed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    tokens, observed = np.asarray(tokens), np.asarray(observed, dtype=bool)
    if tokens.ndim != 2 or tokens.shape[1] != grammar.num_tokens:
        raise ValueError(f"tokens must be (P, {grammar.num_tokens}), got {tokens.shape}")
    if observed.shape not in (tokens.shape, tokens.shape[1:]):
        raise ValueError(
            f"observed must be {tokens.shape[1:]} or {tokens.shape}, got {observed.shape}"
        )
    return tokens, np.broadcast_to(observed, tokens.shape)


def _chunks(
    grammar: Grammar, tokens: np.ndarray, observed: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    numbers = grammar.num_tokens * grammar.num_features * grammar.num_synonyms
    step = max(_CHUNK_NUMBERS // numbers, 1)
    for start in range(0, len(tokens), step):
        yield tokens[start : start + step], observed[start : start + step]
