//! The breaker of a target: Flowing, Tripped, Probing.
