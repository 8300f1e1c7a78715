"""How far one distribution over tokens is from another."""

import mlx.core as mx


def kl_divergence(reference: mx.array, other: mx.array) -> mx.array:
    """Logits [..., V] of both -> KL(reference || other) in nats, float32 [...]."""
    p, q = (log_probabilities(logits) for logits in (reference, other))
    return (mx.exp(p) * (p - q)).sum(axis=-1)


def log_probabilities(logits: mx.array) -> mx.array:
    """Logits [..., V] -> logarithms of their softmax, float32."""
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)
