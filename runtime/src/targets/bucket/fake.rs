//! A store that speaks the protocol of S3, as far as Weir uses it, and fails as a script says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use percent_encoding::percent_decode_str;

use super::super::fixture::{Asked, Fixture, Reply};
use crate::sync::lock;

/// What happens to a write.
#[derive(Clone, Debug)]
pub(in crate::targets) enum Fault {
    /// An error, and nothing is applied.
    Error(u16, &'static str),
    /// It is applied, and the connection ends without an answer.
    Lost,
    /// It is applied when the test releases it, and there is no answer.
    Held,
    /// It is not applied, and the answer breaks off.
    Half,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::targets) struct Kept {
    pub(in crate::targets) body: Vec<u8>,
    /// Content type and metadata.
    pub(in crate::targets) headers: BTreeMap<String, String>,
}

/// An unfinished upload: the name of its object, what the object will have, and the parts by number.
type Upload = (String, Kept, BTreeMap<u32, Vec<u8>>);

#[derive(Default)]
pub(in crate::targets) struct State {
    pub(in crate::targets) objects: BTreeMap<String, Kept>,
    /// Unfinished uploads by id.
    pub(in crate::targets) uploads: BTreeMap<String, Upload>,
    /// Of the next writes of objects.
    pub(in crate::targets) faults: VecDeque<Fault>,
    /// The answer to the next completions of uploads, in place of the usual.
    pub(in crate::targets) completions: VecDeque<Reply>,
    /// The answer to all looks, in place of the usual.
    pub(in crate::targets) looks: Option<Reply>,
    /// Writes that are held: names, and what is put there, or deleted.
    pub(in crate::targets) held: Vec<(String, Option<Kept>)>,
    /// Whether uploads are not aborted.
    pub(in crate::targets) keeps_uploads: bool,
    /// Writes of objects, and looks.
    pub(in crate::targets) writes: usize,
    pub(in crate::targets) looked: usize,
    begun: usize,
}

/// The store. It stops when it is dropped.
pub(in crate::targets) struct Fake {
    pub(in crate::targets) fixture: Fixture,
    state: Arc<Mutex<State>>,
}

pub(in crate::targets) fn error(status: u16, code: &str) -> Reply {
    Reply::Body(
        status,
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>says the test</Message></Error>"
        ),
    )
}

impl Fake {
    pub(in crate::targets) async fn start() -> Fake {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        Fake::listening(listener.expect("a free port on loopback"))
    }

    pub(in crate::targets) fn listening(listener: tokio::net::TcpListener) -> Fake {
        let state: Arc<Mutex<State>> = Arc::default();
        let serving = state.clone();
        let fixture = Fixture::serve(listener, move |asked| answer(&serving, asked));
        Fake { fixture, state }
    }

    pub(in crate::targets) fn url(&self) -> String {
        self.fixture.url("")
    }

    pub(in crate::targets) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut lock(&self.state))
    }

    /// Carries out the writes that were held.
    pub(in crate::targets) fn release(&self) {
        self.with(|state| {
            for (name, put) in std::mem::take(&mut state.held) {
                match put {
                    Some(kept) => drop(state.objects.insert(name, kept)),
                    None => drop(state.objects.remove(&name)),
                }
            }
        });
    }

    /// The body of an object.
    pub(in crate::targets) fn body(&self, name: &str) -> Option<String> {
        let text = |kept: &Kept| String::from_utf8_lossy(&kept.body).into_owned();
        self.with(|state| state.objects.get(name).map(text))
    }
}

fn answer(state: &Arc<Mutex<State>>, asked: &Asked) -> Reply {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let path = path.trim_start_matches('/');
    let name = path.split_once('/').map_or("", |(_, name)| name);
    let name = percent_decode_str(name)
        .decode_utf8()
        .expect("text")
        .into_owned();
    let value = |wanted: &str| {
        let mut pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let found = pairs.find(|(name, _)| *name == wanted);
        found.map(|(_, value)| {
            percent_decode_str(value)
                .decode_utf8()
                .expect("text")
                .into_owned()
        })
    };
    let kept = || Kept {
        body: asked.body.clone(),
        headers: asked
            .headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-amz-meta-") || *name == "content-type")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    };
    let etag = |number: usize| Reply::Header(200, "etag", format!("\"{number}\""));
    let mut locked = lock(state);
    match (&*asked.method, value("uploadId")) {
        ("POST", None) if value("uploads").is_some() => {
            locked.begun += 1;
            let id = format!("u{}", locked.begun);
            locked
                .uploads
                .insert(id.clone(), (name, kept(), BTreeMap::new()));
            Reply::Body(
                200,
                format!(
                    "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                ),
            )
        }
        ("PUT", Some(id)) => {
            if let Some(Fault::Error(status, code)) = locked.faults.pop_front() {
                return error(status, code);
            }
            let number: u32 = value("partNumber")
                .expect("a number")
                .parse()
                .expect("a number");
            match locked.uploads.get_mut(&id) {
                Some((_, _, parts)) => {
                    parts.insert(number, asked.body.clone());
                    etag(number as usize)
                }
                None => error(404, "NoSuchUpload"),
            }
        }
        ("POST", Some(id)) => {
            if let Some(reply) = locked.completions.pop_front() {
                return reply;
            }
            let Some((name, mut kept, parts)) = locked.uploads.remove(&id) else {
                return error(404, "NoSuchUpload");
            };
            kept.body = parts.into_values().flatten().collect();
            locked.objects.insert(name, kept);
            Reply::Body(
                200,
                "\n \n<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>".into(),
            )
        }
        ("DELETE", Some(_)) if locked.keeps_uploads => error(503, "SlowDown"),
        ("DELETE", Some(id)) => match locked.uploads.remove(&id) {
            Some(_) => Reply::Status(204),
            None => error(404, "NoSuchUpload"),
        },
        ("GET", None) => list(
            &locked,
            value("prefix"),
            value("continuation-token"),
            value("max-keys"),
        ),
        ("HEAD", None) => {
            locked.looked += 1;
            if let Some(reply) = &locked.looks {
                return reply.clone();
            }
            match locked.objects.get(&name) {
                Some(kept) => {
                    let headers = kept.headers.iter();
                    let headers: String = headers
                        .map(|(name, value)| format!("\r\n{name}: {value}"))
                        .collect();
                    // Without a body, the length is that of the object.
                    Reply::Head(kept.body.len(), format!("etag: \"1\"{headers}\r\n"))
                }
                None => Reply::Status(404),
            }
        }
        ("PUT" | "DELETE", None) => {
            locked.writes += 1;
            let put = (asked.method == "PUT").then(kept);
            let held = (name.clone(), put.clone());
            let apply = move |state: &mut State| match put {
                Some(kept) => drop(state.objects.insert(name, kept)),
                None => drop(state.objects.remove(&name)),
            };
            match locked.faults.pop_front() {
                Some(Fault::Error(status, code)) => error(status, code),
                Some(Fault::Half) => Reply::Half(200),
                Some(Fault::Lost) => {
                    apply(&mut locked);
                    Reply::Close
                }
                Some(Fault::Held) => {
                    locked.held.push(held);
                    Reply::Hang
                }
                None => {
                    let condition = asked.headers.get("if-none-match");
                    if condition.is_some_and(|it| it == "*")
                        && locked
                            .objects
                            .contains_key(path.split_once('/').map_or("", |(_, it)| it))
                    {
                        return error(412, "PreconditionFailed");
                    }
                    apply(&mut locked);
                    match asked.method == "PUT" {
                        true => etag(locked.writes),
                        false => Reply::Status(204),
                    }
                }
            }
        }
        other => panic!("a request that is not expected: {other:?} {}", asked.path),
    }
}

fn list(
    state: &State,
    prefix: Option<String>,
    after: Option<String>,
    most: Option<String>,
) -> Reply {
    let most = most.map_or(1000, |most| most.parse().expect("a number"));
    let prefix = prefix.unwrap_or_default();
    let mut names = state
        .objects
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix))
        .filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after));
    let page: Vec<_> = names.by_ref().take(most).collect();
    let next = names
        .next()
        .and(page.last())
        .map(|(name, _)| format!("<NextContinuationToken>{name}</NextContinuationToken>"));
    let item = |(name, kept): &(&String, &Kept)| {
        format!(
            "<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"1\"</ETag><Size>{}</Size></Contents>",
            kept.body.len()
        )
    };
    let items: String = page.iter().map(item).collect();
    Reply::Body(
        200,
        format!(
            "<ListBucketResult>{items}{}</ListBucketResult>",
            next.unwrap_or_default()
        ),
    )
}
