//! The two formats of metrics: which one a scraper wants, and one made of the other.
//!
//! OpenMetrics and the older text of Prometheus differ in the names that `HELP` and `TYPE` are about,
//! in the kinds that there are, and in the last line. A program that does not ask for OpenMetrics by
//! name gets the older text, which each of them reads.

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4.
    Prometheus,
}

impl Format {
    /// The format that the value of an `Accept` header asks for, if there is one.
    pub fn wanted(accept: Option<&str>) -> Format {
        let ranges = || accept.unwrap_or_default().split(',');
        let quality = |named: &str| {
            ranges()
                .filter_map(range)
                .filter(|(essence, _)| essence.eq_ignore_ascii_case(named))
                .map(|(_, quality)| quality)
                .fold(0.0, f32::max)
        };
        let (new, old) = (
            quality("application/openmetrics-text"),
            quality("text/plain"),
        );
        if new > 0.0 && new >= old {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }

    /// The media type of the format.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A media range without its parameters, and its quality.
fn range(written: &str) -> Option<(&str, f32)> {
    let mut parts = written.split(';').map(str::trim);
    let essence = parts.next()?;
    let quality = parts.find_map(|parameter| parameter.strip_prefix("q="));
    Some((essence, quality.map_or(Some(1.0), |q| q.parse().ok())?))
}

/// OpenMetrics text as text of Prometheus.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = about.split_once(' ').map_or("", |(_, words)| words);
        } else if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, kind) = about.split_once(' ').unwrap_or((about, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let old_prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3";
        for (accept, format) in [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (
                Some("text/html, application/xhtml+xml, */*;q=0.8"),
                Format::Prometheus,
            ),
            (Some(prometheus), Format::OpenMetrics),
            (Some(old_prometheus), Format::Prometheus),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (
                Some("Application/OpenMetrics-Text; q=1"),
                Format::OpenMetrics,
            ),
            (
                Some("application/openmetrics-text; q=0"),
                Format::Prometheus,
            ),
            (
                Some("application/openmetrics-text; q=high"),
                Format::Prometheus,
            ),
            (
                Some("application/openmetrics-text;q=0.1, text/plain"),
                Format::Prometheus,
            ),
        ] {
            assert_eq!(Format::wanted(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn names_and_kinds_are_those_of_prometheus() {
        let open = "# HELP weir_events Events.\n# TYPE weir_events counter\nweir_events_total{a=\"b\"} 1\n\
                    # HELP weir_build The version.\n# TYPE weir_build info\nweir_build_info{version=\"1\"} 1\n\
                    # HELP weir_owed Places.\n# TYPE weir_owed gauge\nweir_owed 0\n# EOF\n";
        let old = "# HELP weir_events_total Events.\n# TYPE weir_events_total counter\nweir_events_total{a=\"b\"} 1\n\
                   # HELP weir_build_info The version.\n# TYPE weir_build_info gauge\nweir_build_info{version=\"1\"} 1\n\
                   # HELP weir_owed Places.\n# TYPE weir_owed gauge\nweir_owed 0\n";
        assert_eq!(prometheus(open), old);
    }
}
