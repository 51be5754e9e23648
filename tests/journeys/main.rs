//! Tests from outside: the built program, HTTP in, deliveries out. There is one file for each group
//! of promises.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod author;
mod bodies;
mod bus;
mod catalog;
mod console;
mod damage;
mod described;
mod drift;
mod egress;
mod feeds;
mod files;
mod first_day;
mod floods;
mod full;
mod held_back;
mod installed;
mod isolation;
mod jq;
#[cfg(feature = "kafka")]
mod kafka;
mod kill;
mod languages;
mod large;
mod links;
mod misbehaviour;
mod monitoring;
mod notices;
mod page;
mod pictures;
mod postgres;
mod power;
mod previewed;
mod quiet;
mod receipts;
mod redriven;
mod reload;
mod renames;
mod restored;
mod sandbox;
mod schema;
mod search;
mod secrets;
mod seen;
mod senders;
mod slow;
mod starts;
mod swaps;
mod synced;
mod tls;
mod traces;
mod trouble;
mod unit;
mod walk;
mod watching;
mod windows;
mod wrong_input;
