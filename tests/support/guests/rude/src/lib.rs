//! A mapper in Rust that does what a mapper must not do. The type of an event chooses the misdeed;
//! for any other type it returns one change.

use std::cell::Cell;
use std::hint::black_box;

use serde::Deserialize;
use weir_plugin::{Change, Event, Result};

/// No settings.
#[derive(Debug, Deserialize)]
pub struct Settings {}

thread_local! {
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

/// Maps an event, or does what its type says.
#[weir_plugin::mapper]
pub fn transform(event: &Event, _settings: &Settings) -> Result<Vec<Change>> {
    match &*event.event_type {
        "loop" => loop {
            black_box(());
        },
        "recurse" => {
            black_box(deeper(1));
        }
        "hoard" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(vec![1; 1 << 20]);
                black_box(&hoard);
            }
        }
        "reserve" => {
            black_box(Vec::<u8>::with_capacity(1 << 30));
        }
        "panic" => panic!("the warehouse is on fire"),
        "index" => {
            let stock = [1, 2, 3];
            black_box(stock[black_box(event.id.len() + 3)]);
        }
        "unwrap" => {
            let number: u32 = event.id.parse().unwrap();
            black_box(number);
        }
        "divide" => {
            black_box(1 / black_box(event.id.len() - event.id.len()));
        }
        "flood" => loop {
            weir_plugin::log::error("the same line again");
        },
        "swell" => {
            let text = "x".repeat(2 << 20);
            return Ok(vec![Change::facet("product", &*event.id, "base", &text)?]);
        }
        "abort" => std::process::abort(),
        "thread" => {
            std::thread::spawn(|| ())
                .join()
                .map_err(|_| "a thread has panicked")
                .unwrap();
        }
        "clock" => {
            black_box(std::time::Instant::now());
        }
        "file" => {
            std::fs::read("/etc/passwd").unwrap();
        }
        "network" => {
            std::net::TcpStream::connect("127.0.0.1:1").unwrap();
        }
        "count" => {
            // An instance's memory is gone with the instance, so a plugin that relies on it counts
            // wrong.
            SEEN.set(SEEN.get() + 1);
        }
        _ => {}
    }
    Ok(vec![Change::facet("product", &*event.id, "base", &1)?])
}

#[allow(unconditional_recursion)]
fn deeper(depth: u64) -> u64 {
    let frame = [depth; 64];
    black_box(&frame);
    deeper(black_box(depth + 1)) + frame[3]
}
