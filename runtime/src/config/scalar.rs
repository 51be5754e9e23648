//! Converts durations, sizes, shares and rates from text and back. Pure functions.

use std::time::Duration;

/// The help for a duration.
pub const DURATION: &str =
    "write a whole number and a unit, such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"30d\"";
/// The help for a size.
pub const SIZE: &str =
    "write a whole number and a unit, such as \"500B\", \"64KiB\", \"16MiB\" or \"1GiB\"";
/// The help for a share.
pub const SHARE: &str = "write a percentage from 0% to 100%, such as \"2%\"";
/// The help for a rate.
pub const RATE: &str =
    "write a whole number per second, minute or hour, such as \"500/s\", \"30/m\" or \"10/h\"";

/// The same for a rate of bytes.
pub const BYTE_RATE: &str =
    "write a size per second, minute or hour, such as \"512KiB/s\" or \"100MiB/m\"";

const DURATIONS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
const RATES: [(&str, f64); 3] = [("/s", 1.0), ("/m", 60.0), ("/h", 3600.0)];

/// Parses a duration: `250ms`, `30s`, `5m`, `1h`, `30d`.
pub fn duration(text: &str) -> Option<Duration> {
    quantity(text, &DURATIONS).map(Duration::from_millis)
}

/// Parses a size: `500B`, `64KiB`, `16MiB`, `1GiB`. Returns bytes.
pub fn size(text: &str) -> Option<u64> {
    quantity(text, &SIZES)
}

/// Parses a share: `2%`, `0.5%`. Returns a number from 0 to 1.
pub fn share(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?;
    let plain = !number.is_empty()
        && number
            .chars()
            .all(|character| character.is_ascii_digit() || character == '.');
    let share: f64 = number.parse::<f64>().ok().filter(|_| plain)? / 100.0;
    (0.0..=1.0).contains(&share).then_some(share)
}

/// Parses a rate: `500/s`, `30/m`, `10/h`. Returns a number above 0, per second.
pub fn rate(text: &str) -> Option<f64> {
    let (suffix, seconds) = RATES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let number =
        whole(text.strip_suffix(suffix)?).filter(|number| (1..=1_000_000_000).contains(number))?;
    Some(number as f64 / seconds)
}

/// Parses a rate of bytes: `512KiB/s`, `100MiB/m`. Returns bytes per second, above 0.
pub fn byte_rate(text: &str) -> Option<f64> {
    let (suffix, seconds) = RATES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let bytes = size(text.strip_suffix(suffix)?).filter(|bytes| *bytes > 0)?;
    Some(bytes as f64 / seconds)
}

/// A duration in the form in which it is written in a file.
pub fn duration_text(duration: Duration) -> String {
    quantity_text(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        &DURATIONS,
        "0ms",
    )
}

/// A size in bytes in the form in which it is written in a file.
pub fn size_text(bytes: u64) -> String {
    quantity_text(bytes, &SIZES, "0B")
}

/// A share in the form in which it is written in a file.
pub fn share_text(share: f64) -> String {
    // Rounding hides differences of less than a millionth of a percent, which come from the
    // conversion.
    format!("{}%", (share * 1e8).round() / 1e6)
}

/// A rate in the form in which it is written in a file: per second if that is a whole number.
pub fn rate_text(rate: f64) -> String {
    let whole = |per: f64| ((rate * per).round() - rate * per).abs() < 1e-6;
    let (suffix, seconds) = RATES
        .iter()
        .find(|(_, seconds)| whole(*seconds))
        .unwrap_or(&RATES[2]);
    format!("{}{suffix}", (rate * seconds).round())
}

/// A rate of bytes in the form in which it is written in a file.
pub fn byte_rate_text(rate: f64) -> String {
    let whole = |per: f64| ((rate * per).round() - rate * per).abs() < 1e-6;
    let (suffix, seconds) = RATES
        .iter()
        .find(|(_, seconds)| whole(*seconds))
        .unwrap_or(&RATES[2]);
    format!("{}{suffix}", size_text((rate * seconds).round() as u64))
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (_, factor) = units.iter().find(|(unit, _)| *unit == &text[digits..])?;
    whole(&text[..digits])?.checked_mul(*factor)
}

fn whole(digits: &str) -> Option<u64> {
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

fn quantity_text(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    let fits = |factor: u64| amount > 0 && amount.is_multiple_of(factor);
    units
        .iter()
        .find(|(_, factor)| fits(*factor))
        .map_or(zero.to_owned(), |(unit, factor)| {
            format!("{}{unit}", amount / factor)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_quantity_is_parsed() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("30d"), Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("500B"), Some(500));
        assert_eq!(share("2%"), Some(0.02));
        assert_eq!(rate("500/s"), Some(500.0));
        assert_eq!(rate("30/m"), Some(0.5));
        assert_eq!(byte_rate("2KiB/s"), Some(2048.0));
        assert_eq!(byte_rate("60MiB/m"), Some(1_048_576.0));
        for text in ["10/s", "0B/s", "5KiB", "KiB/s", "1KiB/d", ""] {
            assert_eq!(byte_rate(text), None, "{text}");
        }
        for text in ["512KiB/s", "100MiB/m", "1B/h"] {
            assert_eq!(byte_rate_text(byte_rate(text).expect("right")), text);
        }
    }

    #[test]
    fn a_malformed_quantity_is_rejected_and_not_guessed() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "5S",
            "1.5s",
            "5minutes",
            "99999999999999999999s",
            "18446744073709551615d",
            "5ä",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        for text in ["64", "64KB", "64 KiB", "1TiB", "18446744073709551615GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
        for text in ["2", "0.02", "101%", "-1%", "%", "NaN%", "inf%", "1e1%"] {
            assert_eq!(share(text), None, "{text}");
        }
        for text in ["500", "0/s", "-1/s", "1.5/s", "500/d", "/s"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }

    #[test]
    fn a_quantity_is_shown_as_it_was_written() {
        for text in ["250ms", "90s", "5m", "1h", "30d", "1500ms"] {
            assert_eq!(duration_text(duration(text).expect("right")), text);
        }
        for text in ["500B", "64KiB", "16MiB", "1GiB"] {
            assert_eq!(size_text(size(text).expect("right")), text);
        }
        for text in ["500/s", "30/m", "10/h"] {
            assert_eq!(rate_text(rate(text).expect("right")), text);
        }
        assert_eq!(share_text(0.02), "2%");
        assert_eq!(share_text(share("0.5%").expect("right")), "0.5%");
    }
}
