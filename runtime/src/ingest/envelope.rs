//! CloudEvents and the rest: a request becomes events.
