//! The context of a trace, as W3C Trace Context defines it: which trace, which span of it, and whether
//! the span is recorded.

use std::fmt;

/// One span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    /// The id of the whole trace; not 0.
    pub trace: u128,
    /// The id of the span; not 0.
    pub span: u64,
    /// Whether whoever made the span may have recorded it, so that those that follow should be recorded
    /// too.
    pub sampled: bool,
}

/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

impl Trace {
    /// Reads a `traceparent`; `None` if it is not one. Of a later version than 00 only the part that this
    /// version has is read, as the specification wants it.
    pub fn parse(traceparent: &str) -> Option<Trace> {
        let text = traceparent.trim_matches([' ', '\t']);
        let (known, more) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let mut next = |length: usize| {
            let part = parts.next().filter(|part| part.len() == length)?;
            let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            part.bytes().all(is_hex).then_some(part)
        };
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let is_right = match version {
            "ff" => false,
            "00" => more.is_empty(),
            _ => more.is_empty() || more.starts_with('-'),
        };
        let trace = u128::from_str_radix(trace, 16).ok()?;
        let span = u64::from_str_radix(span, 16).ok()?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (is_right && trace != 0 && span != 0).then_some(Trace {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }

    /// The id of the trace, as logs and other programs write it.
    pub fn trace_hex(self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The id of the span, in the same way.
    pub fn span_hex(self) -> String {
        format!("{:016x}", self.span)
    }
}

impl fmt::Display for Trace {
    /// Formats it as a `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        let (trace, span) = (self.trace.max(1), self.span.max(1));
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_traceparent_is_read_as_the_specification_wants_it() {
        let of = |flags: &str| Trace::parse(&format!("00-{ID}-b7ad6b7169203331-{flags}"));
        let trace = |sampled| Trace {
            trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span: 0xb7ad_6b71_6920_3331,
            sampled,
        };
        assert_eq!(of("01"), Some(trace(true)));
        assert_eq!(of("00"), Some(trace(false)));
        // Other flags than the first are none of ours.
        assert_eq!(
            (of("02"), of("03")),
            (Some(trace(false)), Some(trace(true)))
        );
        for sampled in [true, false] {
            let written = trace(sampled).to_string();
            assert_eq!(Trace::parse(&written), Some(trace(sampled)), "{written}");
        }
        assert_eq!(trace(true).trace_hex(), ID);
        assert_eq!(trace(true).span_hex(), "b7ad6b7169203331");
    }

    #[test]
    fn a_later_version_may_have_more_and_version_00_may_not() {
        let of = |version: &str, more: &str| {
            Trace::parse(&format!("{version}-{ID}-b7ad6b7169203331-01{more}")).is_some()
        };
        assert!(of("00", "") && of("01", "") && of("cc", "-what-the-future-brings"));
        assert!(!of("00", "-more") && !of("01", "more") && !of("ff", ""));
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let span = "b7ad6b7169203331";
        for wrong in [
            String::new(),
            "00".into(),
            format!("00-{ID}-{span}"),
            format!("00-{ID}-{span}-1"),
            format!("00-{}-{span}-01", ID.to_uppercase()),
            format!("00-{}-{span}-01", ID.replace('0', "+")),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{ID}-{}-01", "0".repeat(16)),
            format!("00-{ID}-{span}-0g"),
            format!("00-{}-{span}0-01", &ID[1..]),
            format!("00-{}ü-{span}-01", &ID[2..]),
        ] {
            assert_eq!(Trace::parse(&wrong), None, "{wrong}");
        }
    }
}
