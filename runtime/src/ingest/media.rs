//! Parses media types and content codings from headers, by their grammar instead of by prefix.

use super::Headers;

/// A media type: `Text/XML; charset="utf-8"` is `text/xml` with charset `utf-8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Media {
    /// Type and subtype in lower case.
    pub(super) essence: String,
    /// The parameter `charset` in lower case.
    pub(super) charset: Option<String>,
}

impl Media {
    /// Parses a media type; `None` if it is not one.
    pub(super) fn parse(written: &str) -> Option<Media> {
        let mut parts = split_parameters(written).into_iter();
        let essence = parts.next()?.trim().to_ascii_lowercase();
        let (main, sub) = essence.split_once('/')?;
        if main.is_empty()
            || sub.is_empty()
            || essence.bytes().any(|byte| !is_token(byte) && byte != b'/')
            || sub.contains('/')
        {
            return None;
        }
        let charset = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        let charset = charset.map(|(_, value)| value.trim().trim_matches('"').to_ascii_lowercase());
        Some(Media { essence, charset })
    }

    /// Whether data of this type is JSON: `application/json` or anything that ends in `+json`.
    pub(super) fn is_json(&self) -> bool {
        self.essence == "application/json"
            || self.essence == "text/json"
            || self.essence.ends_with("+json")
    }

    /// Whether data of this type is text by its nature: `text/…` and XML.
    pub(super) fn is_text(&self) -> bool {
        self.essence.starts_with("text/")
            || self.essence == "application/xml"
            || self.essence.ends_with("+xml")
    }

    /// Whether text of this type is UTF-8, according to its charset.
    pub(super) fn is_utf8(&self) -> bool {
        self.charset
            .as_deref()
            .is_none_or(|charset| matches!(charset, "utf-8" | "utf8" | "us-ascii"))
    }
}

/// The media type of the same text after it became UTF-8.
pub(super) fn as_utf8(written: &str) -> String {
    let mut parts: Vec<&str> = split_parameters(written);
    parts.retain(|part| {
        let name = part.split('=').next().unwrap_or_default();
        !name.trim().eq_ignore_ascii_case("charset")
    });
    let kept: Vec<&str> = parts.into_iter().map(str::trim).collect();
    format!("{}; charset=utf-8", kept.join("; "))
}

/// Whether a media type is that of one JSON value a line. None of its names is registered.
pub(super) fn is_lines_of_json(essence: &str) -> bool {
    matches!(
        essence,
        "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonl"
            | "application/jsonlines"
            | "application/x-jsonlines"
            | "application/json-lines"
    )
}

/// The `Content-Type` as written and as understood.
pub(super) fn content_type(headers: &Headers) -> (Option<String>, Option<Media>) {
    let written = headers
        .get("content-type")
        .map(|value| String::from_utf8_lossy(value).trim().to_owned());
    let written = written.filter(|written| !written.is_empty());
    let media = written.as_deref().and_then(Media::parse);
    (written, media)
}

/// How a body is compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Not compressed.
    Identity,
    /// gzip.
    Gzip,
    /// Something that Weir does not decompress, or several codings in sequence.
    Other(String),
}

/// The `Content-Encoding` of a request.
pub(super) fn coding(headers: &Headers) -> Coding {
    let values = headers
        .get_all("content-encoding")
        .map(|value| String::from_utf8_lossy(value).to_ascii_lowercase());
    let all = values.collect::<Vec<_>>().join(",");
    let mut codings = all
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && *coding != "identity");
    match (codings.next(), codings.next()) {
        (None, _) => Coding::Identity,
        (Some("gzip" | "x-gzip"), None) => Coding::Gzip,
        _ => Coding::Other(all),
    }
}

/// Cuts at semicolons that are not inside quotes.
fn split_parameters(written: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let outside = |character: char| {
        let cut = character == ';' && !quoted;
        quoted ^= character == '"' && !escaped;
        escaped = quoted && character == '\\' && !escaped;
        cut
    };
    written.split(outside).collect()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_space_and_parameters_do_not_matter() {
        let media =
            Media::parse(r#" Application/CloudEvents+JSON ; x="a;b" ; Charset="UTF-8""#).unwrap();
        assert_eq!(
            media,
            Media {
                essence: "application/cloudevents+json".into(),
                charset: Some("utf-8".into())
            }
        );
        assert!(media.is_json() && media.is_utf8());
        assert!(
            !Media::parse("text/xml; charset=iso-8859-1")
                .unwrap()
                .is_utf8()
        );
        assert!(!Media::parse("application/jsonish").unwrap().is_json());
    }

    #[test]
    fn what_was_decoded_is_said_to_be_utf_8() {
        for (written, after) in [
            ("text/plain", "text/plain; charset=utf-8"),
            (
                r#"text/csv; Charset="cp850";header=present"#,
                "text/csv; header=present; charset=utf-8",
            ),
        ] {
            assert_eq!(as_utf8(written), after);
        }
    }

    #[test]
    fn what_is_no_media_type_is_none() {
        for written in [
            "",
            "json",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "a b/c",
            ";charset=utf-8",
        ] {
            assert_eq!(Media::parse(written), None, "{written}");
        }
    }

    #[test]
    fn only_gzip_is_unpacked_and_only_once() {
        let check = |written: &str| coding(&Headers::from_iter([("content-encoding", written)]));
        assert_eq!(check("GZip"), Coding::Gzip);
        assert_eq!(check("identity"), Coding::Identity);
        assert_eq!(coding(&Headers::default()), Coding::Identity);
        assert_eq!(check("gzip, gzip"), Coding::Other("gzip, gzip".into()));
        assert_eq!(check("br"), Coding::Other("br".into()));
    }
}
