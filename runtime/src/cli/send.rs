//! `weir send`: sends files as events of a source, signed on request, and waits for their deliveries.

mod preview;
mod wait;

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, DEFAULT_URL, bearer, path, pretty, with_query};
use super::moment::now;
use super::table::plain;
use super::{CommandResult, Failure};
use crate::config::scalar;
use crate::ingest::verify::{Content, Scheme, presets};
use crate::server::PREFERS_SUMMARY;
use crate::server::views::Accepted;
use crate::signature::{SecretError, SigningKey};

use self::wait::Sent;

/// Lines of NDJSON in a request, and their bytes: well below the limit of any source.
const LINES_MAX: usize = 1000;
const BYTES_MAX: usize = 1 << 20;

/// Arguments of `weir send`.
#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The source, by its name in the configuration
    source: String,
    /// The files; `-` is standard input. Lines of .ndjson are sent in requests of up to 1000
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Media type; default: by the file extension (.json .ndjson .jsonl .xml .csv .edi .txt). JSON
    /// with `specversion` is a CloudEvent
    #[arg(long = "type", value_name = "MEDIA_TYPE")]
    content_type: Option<String>,
    /// The lane for changes that do not name one: urgent, normal or bulk
    #[arg(long)]
    lane: Option<String>,
    /// Send this header as well, such as `X-GitHub-Delivery: 72d3162e`; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Sign with the secret in a variable or a file, as in Standard Webhooks unless --sign is given
    #[arg(long, value_name = "env:NAME|file:PATH")]
    secret: Option<String>,
    /// How to sign: as a kind of `verify` checks it, such as standard-webhooks, shopify, github, stripe or slack,
    /// or the name of the header, with an HMAC of the body in hex
    #[arg(
        long,
        value_name = "HOW",
        requires = "secret",
        default_value = STANDARD_WEBHOOKS
    )]
    sign: String,
    /// Send the token in a variable or a file as `Authorization: Bearer`
    #[arg(long, value_name = "env:NAME|file:PATH", conflicts_with = "secret")]
    bearer: Option<String>,
    /// The address of Weir
    #[arg(long, env = "WEIR_URL", default_value = DEFAULT_URL, value_name = "URL")]
    url: String,
    /// Wait until every channel has settled the entities that the events name, by default at most 30s. Prints
    /// a line for each entity and channel that has not; the exit code is 1 then
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "30s", group = "asks")]
    wait: Option<String>,
    /// Take nothing: print what each stage would make of the events, what the store would do with each change, and
    /// which channels would owe something. The exit code is 1 if an event would be quarantined
    #[arg(long, group = "asks", conflicts_with = "bearer")]
    dry_run: bool,
    /// With --wait or --dry-run: the address of the admin routes, if they have a listener of their own
    #[arg(long, env = "WEIR_ADMIN_URL", value_name = "URL", requires = "asks")]
    admin_url: Option<String>,
    /// With --wait a token with the role `read`, with --dry-run one with `operate`; prefer the environment, where
    /// other users cannot read it
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

/// How the sender authenticates.
enum Proof {
    None,
    Bearer(HeaderValue),
    /// A signature, by a scheme whose content is a template.
    Signed(Box<Scheme>, SigningKey),
}

/// The value of `--sign` that needs no header of its own.
const STANDARD_WEBHOOKS: &str = "standard-webhooks";

pub(super) async fn run(args: SendArgs, out: &mut String) -> CommandResult {
    if args.dry_run {
        return preview::run(&args, out).await;
    }
    let client = Client::at(&args.url, None)?;
    let wait = args.wait.as_deref().map(time_of).transpose()?;
    let proof = proof(&args)?;
    let more = named_all(&args)?;
    let target = with_query(
        &path(&["v1", "sources", &args.source, "events"]),
        &[
            ("lane", args.lane.as_deref()),
            ("receipt", wait.map(|_| "true")),
        ],
    );
    let (mut succeeded, mut sent) = (true, Sent::default());
    let mut responses = Vec::new();
    for file in &args.files {
        let content = open(file)?;
        let content_type = content_type(&args, file, &content);
        for part in parts(&content, &content_type) {
            let first = part.first;
            let body = content.slice(part.bytes);
            let mut headers = with(headers(&content_type, &proof, &body)?, &more);
            // A source may answer its senders something else.
            let summary = HeaderValue::from_static(PREFERS_SUMMARY);
            headers.push((HeaderName::from_static("prefer"), summary));
            let response = client.request(Method::POST, &target, headers, body).await?;
            if args.json {
                responses.push(json!({ "file": file.display().to_string(), "first": first, "answer": response.read::<Value>()? }));
            }
            if !response.status.is_success() || response.is_problem() {
                succeeded = false;
                if !args.json {
                    let from = if first > 0 {
                        format!(", from event {first} on")
                    } else {
                        String::new()
                    };
                    out.push_str(&format!(
                        "{}{from}: rejected: {}\n",
                        plain(&file.display().to_string()),
                        response.problem()
                    ));
                }
                // Later events may depend on the rejected ones.
                break;
            }
            let accepted: Accepted = response.read()?;
            succeeded &= accepted.events.quarantined == 0 && accepted.problems.is_empty();
            if !args.json {
                out.push_str(&to_text(&args.source, file, first, &accepted));
            }
            sent.add(accepted);
        }
    }
    let Some(wait) = wait else {
        if args.json {
            out.push_str(&pretty(&responses));
        }
        return Ok(succeeded);
    };
    let asks = Client::at(
        args.admin_url.as_deref().unwrap_or(&args.url),
        args.token.as_deref(),
    )?;
    let receipts = sent.settle(&asks, wait).await?;
    out.push_str(&match args.json {
        true => pretty(&receipts.to_json(&responses)),
        false => receipts.to_text(),
    });
    Ok(succeeded && receipts.all_settled())
}

/// A duration of the command line.
fn time_of(text: &str) -> Result<Duration, Failure> {
    scalar::duration(text)
        .ok_or_else(|| Failure::Usage(format!("`{}` is not a duration such as 30s", plain(text))))
}

/// The result of a request, as text.
fn to_text(source: &str, file: &Path, first: u64, accepted: &Accepted) -> String {
    let (events, changes) = (&accepted.events, &accepted.changes);
    let mut text = format!(
        "{}: {} accepted, {} filtered, {} quarantined, {} repeated; changes: {} committed, {} unchanged, {} stale; sequence {}\n",
        plain(&file.display().to_string()),
        events.accepted,
        events.filtered,
        events.quarantined,
        events.repeated,
        changes.committed,
        changes.unchanged,
        changes.stale,
        accepted.sequence,
    );
    for problem in &accepted.problems {
        text.push_str(&format!(
            "  event {}: {}: {}\n",
            first + problem.index,
            plain(&problem.code),
            plain(&problem.detail)
        ));
    }
    // A response lists the first problems only.
    let more = events
        .quarantined
        .saturating_sub(accepted.problems.len() as u64);
    if more > 0 {
        text.push_str(&format!(
            "  and {more} more events in quarantine; see `weir quarantine list {source}`\n"
        ));
    }
    text
}

fn open(file: &Path) -> Result<Bytes, Failure> {
    let mut content = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut content),
        _ => std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut content)),
    };
    match read {
        Ok(_) => Ok(content.into()),
        Err(error) => Err(Failure::Unreachable(format!(
            "cannot read {}: {error}",
            file.display()
        ))),
    }
}

type Headers = Vec<(HeaderName, HeaderValue)>;

/// The headers of the command line.
fn named_all(args: &SendArgs) -> Result<Headers, Failure> {
    args.headers.iter().map(|header| named(header)).collect()
}

/// What is given by hand replaces what would be sent without it.
fn with(mut headers: Headers, given: &Headers) -> Headers {
    headers.retain(|(name, _)| given.iter().all(|(other, _)| other != name));
    headers.extend(given.iter().cloned());
    headers
}

fn content_type(args: &SendArgs, file: &Path, content: &[u8]) -> String {
    let given = args.content_type.clone();
    given.unwrap_or_else(|| media_type(file, content).to_owned())
}

/// By the extension and, for JSON, by what is in it.
pub(super) fn media_type(file: &Path, content: &[u8]) -> &'static str {
    let extension = file
        .extension()
        .and_then(|extension| extension.to_str())
        .map(str::to_ascii_lowercase);
    match extension.as_deref() {
        Some("json") | None => json_type(content),
        Some("ndjson" | "jsonl") => "application/x-ndjson",
        Some("xml") => "application/xml",
        Some("csv") => "text/csv",
        Some("edi") => "application/edifact",
        Some("txt") => "text/plain",
        Some(_) => "application/octet-stream",
    }
}

/// A CloudEvent names the version of its specification.
fn json_type(content: &[u8]) -> &'static str {
    match serde_json::from_slice(content) {
        Ok(Value::Object(event)) if event.contains_key("specversion") => {
            "application/cloudevents+json"
        }
        Ok(Value::Array(events))
            if events
                .first()
                .is_some_and(|event| event.get("specversion").is_some()) =>
        {
            "application/cloudevents-batch+json"
        }
        _ => "application/json",
    }
}

/// A piece of a file that is sent in one request.
struct Part {
    bytes: Range<usize>,
    /// Index of its first event in the file.
    first: u64,
}

/// Lines go in portions; anything else is one piece.
fn parts(content: &[u8], content_type: &str) -> Vec<Part> {
    if !content_type.starts_with("application/x-ndjson") {
        return vec![Part {
            bytes: 0..content.len(),
            first: 0,
        }];
    }
    let (mut parts, mut begin, mut end, mut first, mut events, mut lines) =
        (Vec::new(), 0, 0, 0, 0, 0);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if lines == LINES_MAX || (lines > 0 && end + line.len() - begin > BYTES_MAX) {
            parts.push(Part {
                bytes: begin..end,
                first,
            });
            (begin, first, lines) = (end, events, 0);
        }
        end += line.len();
        if !line.trim_ascii().is_empty() {
            lines += 1;
            events += 1;
        }
    }
    parts.push(Part {
        bytes: begin..end,
        first,
    });
    parts
}

/// A header as it is written on the command line.
fn named(header: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "`{}` is not a header; write NAME: VALUE",
            plain(header)
        ))
    };
    let (name, value) = header.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

fn headers(
    content_type: &str,
    proof: &Proof,
    body: &[u8],
) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
    let value = |text: &str| {
        HeaderValue::from_str(text)
            .map_err(|_| Failure::Usage(format!("`{text}` cannot be sent in a header")))
    };
    let mut headers = vec![(CONTENT_TYPE, value(content_type)?)];
    match proof {
        Proof::None => {}
        Proof::Bearer(token) => headers.push((AUTHORIZATION, token.clone())),
        Proof::Signed(scheme, key) => {
            let id = format!("msg_{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
            let signed = scheme.sign(key, &id, now(), body).unwrap_or_default();
            for (name, written) in signed {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| Failure::Usage(format!("`{name}` is not a header")))?;
                headers.push((name, value(&written)?));
            }
        }
    }
    Ok(headers)
}

fn proof(args: &SendArgs) -> Result<Proof, Failure> {
    if let Some(place) = &args.bearer {
        return Ok(Proof::Bearer(bearer(&secret_at(place)?)?));
    }
    let Some(place) = &args.secret else {
        return Ok(Proof::None);
    };
    let secret = secret_at(place)?;
    let (scheme, key) = signed(&args.sign, &secret)?;
    let key = key.map_err(|wrong| Failure::Usage(format!("the secret at {place}: {wrong}")))?;
    Ok(Proof::Signed(Box::new(scheme), key))
}

/// How to sign, by the name of a preset or of a header, and the key for it.
fn signed(how: &str, secret: &str) -> Result<(Scheme, Result<SigningKey, SecretError>), Failure> {
    let preset = match presets::named(how) {
        Some(preset) => preset,
        None => {
            let header = how.parse::<HeaderName>().map_err(|_| {
                Failure::Usage(format!(
                    "`{}` is not a way to sign; write a kind of `verify`, such as {STANDARD_WEBHOOKS}, shopify or github, or the name of a header",
                    plain(how)
                ))
            })?;
            presets::hmac("hmac", &[header.as_str()])
        }
    };
    if !matches!(preset.scheme.content, Content::Template(_)) {
        return Err(Failure::Usage(format!(
            "`weir send` cannot sign as {how} does, which signs more than a header and the body; try such events out with --dry-run"
        )));
    }
    let key = preset.key.signing(secret);
    Ok((preset.scheme, key))
}

/// Secrets are never arguments themselves: those are seen by every user of the machine.
fn secret_at(place: &str) -> Result<String, Failure> {
    let secret = match place.split_once(':') {
        Some(("env", name)) => std::env::var(name)
            .map_err(|_| Failure::Unreachable(format!("the environment has no variable {name}")))?,
        Some(("file", path)) => std::fs::read_to_string(path)
            .map_err(|error| Failure::Unreachable(format!("cannot read {path}: {error}")))?,
        _ => {
            return Err(Failure::Usage(
                "say where the secret is: env:NAME or file:PATH".into(),
            ));
        }
    };
    Ok(secret.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_follows_the_extension_and_the_content() {
        let of = |name: &str, content: &str| media_type(Path::new(name), content.as_bytes());
        assert_eq!(of("a.XML", "<a/>"), "application/xml");
        assert_eq!(of("a.jsonl", ""), "application/x-ndjson");
        assert_eq!(of("a.json", r#"{"type":"product"}"#), "application/json");
        assert_eq!(
            of("a.json", r#"{"specversion":"1.0"}"#),
            "application/cloudevents+json"
        );
        assert_eq!(
            of("-", r#"[{"specversion":"1.0"}]"#),
            "application/cloudevents-batch+json"
        );
        assert_eq!(
            of("a.json", "[not json"),
            "application/json",
            "the server says what is wrong with it"
        );
        assert_eq!(of("a.bin", ""), "application/octet-stream");
    }

    // Events of shops could not be tried out, because their signatures could not be made.
    #[test]
    fn a_source_accepts_the_signature_of_each_preset() {
        use crate::ingest::{Headers, verify};
        use crate::signature::{Secret, VerifyingKey};
        for how in ["shopify", "github", "stripe", "slack", "X-Signature"] {
            let (scheme, key) = signed(how, "hush").expect("a way to sign");
            let proof = Proof::Signed(Box::new(scheme.clone()), key.expect("a key"));
            let sent = headers("application/json", &proof, b"{}").expect("headers");
            let mut given = Headers::default();
            for (name, value) in &sent {
                given.push(name.as_str(), value.as_bytes());
            }
            let options = verify::Options::Signed(Box::new(Scheme {
                keys: vec![VerifyingKey::Shared(Secret(b"hush".to_vec()))],
                ..scheme
            }));
            assert_eq!(
                verify::verify(&options, &given, b"{}", now()),
                Ok(()),
                "{how}"
            );
        }
        for wrong in ["no header", "twilio", "adyen"] {
            assert!(signed(wrong, "hush").is_err(), "{wrong}");
        }
        let (_, key) = signed(STANDARD_WEBHOOKS, "hush").expect("a way to sign");
        assert!(key.is_err(), "no such key");
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let (name, value) = named("X-GitHub-Event:  push ").expect("a header");
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("x-github-event", &b"push"[..])
        );
        for wrong in ["X-GitHub-Event", "a b: c", "a: b\nc: d"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }

    // A response lists 100 problems. Of a file with 900 bad lines, 800 were not spoken of.
    #[test]
    fn problems_that_a_response_does_not_list_are_counted() {
        let problem = crate::server::views::EventProblem {
            index: 2,
            code: "invalid-json".into(),
            detail: "expected value".into(),
        };
        let mut accepted = Accepted {
            problems: vec![problem],
            ..Accepted::default()
        };
        accepted.events.quarantined = 901;
        let text = to_text("erp", Path::new("a.ndjson"), 1000, &accepted);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  event 1002: invalid-json: expected value",
                "  and 900 more events in quarantine; see `weir quarantine list erp`"
            ]
        );
        accepted.events.quarantined = 1;
        assert_eq!(
            to_text("erp", Path::new("-"), 0, &accepted).lines().count(),
            2
        );
    }

    #[test]
    fn lines_are_sent_in_portions_that_know_their_first_event() {
        let of = |content: &str| -> Vec<(String, u64)> {
            let part = |part: Part| (content[part.bytes].to_owned(), part.first);
            parts(content.as_bytes(), "application/x-ndjson")
                .into_iter()
                .map(part)
                .collect()
        };
        assert_eq!(of("{}\n\n{}"), [("{}\n\n{}".to_owned(), 0)]);
        let many = of(&"{}\n".repeat(2500));
        assert_eq!(
            many.iter().map(|(_, first)| *first).collect::<Vec<_>>(),
            [0, 1000, 2000]
        );
        assert_eq!(
            many.iter().map(|(text, _)| text.len()).sum::<usize>(),
            7500,
            "nothing is lost between them"
        );
        let wide = format!("\"{}\"\n", "x".repeat(BYTES_MAX / 2));
        assert_eq!(of(&wide.repeat(3)).len(), 3);
    }
}
