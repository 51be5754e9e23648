//! From outside: the built program, HTTP in, deliveries out; one file a group of promises.

#[path = "../support/mod.rs"]
mod support;

mod trouble;
mod wrong_input;
