//! What every store must do, in small stories.
