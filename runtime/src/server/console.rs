//! `/` and its files: the console, a page that shows and operates this Weir through the routes of the table.
//!
//! The files are embedded in this program and served as they are. Their addresses contain a digest of all
//! of them, so that a browser may keep them for ever and never mixes those of two versions.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};

use super::feeds::prefers_gzip;
use super::problem::Problem;

/// The files of the console.
static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/console");
/// Nothing from elsewhere, nothing inline, and no text that becomes code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// A digest of all files.
pub(super) fn digest() -> &'static str {
    static DIGEST: LazyLock<String> = LazyLock::new(|| {
        let mut files: Vec<_> = FILES.files().collect();
        files.sort_by_key(|file| file.path());
        let mut hash = Sha256::new();
        for file in files {
            hash.update(file.path().to_string_lossy().as_bytes());
            hash.update((file.contents().len() as u64).to_be_bytes());
            hash.update(file.contents());
        }
        hex::encode(hash.finalize())[..16].to_owned()
    });
    &DIGEST
}

/// The version of Weir and of the console's files: a page that sees another one loads itself again.
pub(super) fn build() -> &'static str {
    static BUILD: LazyLock<String> =
        LazyLock::new(|| format!("{}-{}", env!("CARGO_PKG_VERSION"), digest()));
    &BUILD
}

/// `GET /`: the page. Its query is the page's own state.
pub(super) async fn page(headers: HeaderMap) -> Response {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        let file = FILES.get_file("index.html");
        let text = file.and_then(|file| file.contents_utf8());
        text.unwrap_or_default()
            .replace("{{digest}}", digest())
            .replace("{{build}}", build())
    });
    let tag = format!("\"{}\"", build());
    let known = headers.get_all(IF_NONE_MATCH).iter();
    let known = known
        .filter_map(|tags| tags.to_str().ok())
        .flat_map(|tags| tags.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == tag);
    let head = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let body = if known { "" } else { PAGE.as_str() };
    let mut response = (head, [(ETAG, tag)], body).into_response();
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response
}

/// The files as most browsers get them.
static PACKED: LazyLock<HashMap<PathBuf, Vec<u8>>> = LazyLock::new(|| {
    let pack = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes)?;
        encoder.finish()
    };
    let files = FILES.files().map(|file| (file.path(), file.contents()));
    files
        .filter_map(|(path, bytes)| Some((path.to_owned(), pack(bytes).ok()?)))
        .collect()
});

/// `GET /console/{digest}/{file}`: a file of the page.
pub(super) async fn file(
    Path((version, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = FILES.get_file(&name).filter(|_| version == digest());
    let content_type = match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let file = file.ok_or_else(|| {
        let detail = "the console of this Weir has no such file; it may belong to another version: load the page again";
        Problem::new(StatusCode::NOT_FOUND, "unknown-file", detail)
    })?;
    let head = [
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (CONTENT_TYPE, content_type),
        (VARY, "accept-encoding"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let packed = PACKED.get(file.path());
    Ok(match packed.filter(|_| prefers_gzip(&headers)) {
        Some(packed) => (head, [(CONTENT_ENCODING, "gzip")], packed.as_slice()).into_response(),
        None => (head, file.contents()).into_response(),
    })
}
