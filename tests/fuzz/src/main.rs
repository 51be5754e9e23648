//! x
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = weir::signature::Secret::from_webhook_secret(&String::from_utf8_lossy(data)); });
