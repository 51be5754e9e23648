//! What a configuration of a feed may say.

use crate::plan::{Plan, ReadOptions, read, redacted, render};
use crate::targets::Kind;
use crate::targets::feed::{Format, Options, Serve};

fn understood(server: &str, feed: &str, more: &str) -> Result<Plan, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("weir.toml");
    let text = format!(
        r#"config_version = 1
[server]
listen = "127.0.0.1:0"
{server}
[entities.product]
facets.content = {{ owner = "pim" }}
[targets.google]
kind = "feed"
{feed}
[channels.google]
entity = "product"
facets = ["content"]
target = "google"
{more}
"#
    );
    std::fs::write(&file, text).expect("a file");
    let options = ReadOptions { secrets: true };
    let read = read(&[file], &|_| None, options);
    read.map(|(plan, _)| plan).map_err(|wrong| render(&wrong))
}

fn options(plan: &Plan) -> Options {
    match &plan.targets["google"].kind {
        Kind::Feed(options) => (**options).clone(),
        other => panic!("{other:?}"),
    }
}

const XML: &str = "format = \"xml\"\nfields = { \"g:price\" = \"/price\", \"g:id\" = \"/sku\", title = \"/a~1b\" }";

#[test]
fn fields_stay_in_their_order_and_the_rest_has_defaults() {
    let plan = understood("", XML, "").expect("a plan");
    let options = options(&plan);
    let names: Vec<_> = options.fields.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["g:price", "g:id", "title"]);
    assert_eq!(options.interval, Options::INTERVAL);
    assert_eq!((options.shrink_max, options.serve), (0.2, None));
    let Format::Xml(xml) = options.format else {
        panic!("no XML");
    };
    assert_eq!(xml.root, ["rss", "channel"]);
}

#[test]
fn what_was_read_is_shown_without_the_password() {
    let feed = format!(
        "{XML}\nserve = {{ basic = {{ user = \"google\", password = \"s3cret-s3cret\" }} }}\ninterval = \"1h\""
    );
    let plan = understood("", &feed, "").expect("a plan");
    let shown = redacted(&plan).to_string();
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.contains(r#""interval":"1h""#), "{shown}");
    assert!(matches!(options(&plan).serve, Some(Serve::Basic { .. })));
}

#[test]
fn mistakes_are_named_with_what_would_be_right() {
    let cases = [
        ("", "format is missing"),
        ("format = \"xml\"", "fields is missing"),
        (
            "format = \"csv\"\nfields = { id = \"sku\" }",
            "is not a JSON pointer",
        ),
        (
            "format = \"csv\"\nfields = { id = \"/sku\" }\ncdata = [\"id\"]",
            "cdata belongs to format = \"xml\"",
        ),
        (
            "format = \"tsv\"\nfields = { id = \"/sku\" }\ndelimiter = \";\"",
            "delimiter belongs to format = \"csv\"",
        ),
        (
            "format = \"csv\"\nfields = { id = \"/sku\" }\ndelimiter = \";;\"",
            "is not a delimiter",
        ),
        (
            "format = \"xml\"\nfields = { \"c:id\" = \"/sku\" }",
            "the prefix of \"c:id\" is not declared",
        ),
        (
            "format = \"xml\"\nfields = { \"1d\" = \"/sku\" }",
            "cannot be the name of an element",
        ),
        (
            "format = \"ndjson\"\nserve = \"closed\"",
            "is not allowed here",
        ),
        ("format = \"ndjson\"\ninterval = \"1ms\"", "out of bounds"),
        (
            "format = \"ndjson\"\nshrink_max = \"300%\"",
            "is not a percentage",
        ),
        (
            "format = \"ndjson\"\nto = \"s3://a/b\"",
            "there is no such key",
        ),
    ];
    for (feed, expected) in cases {
        let wrong = understood("", feed, "").expect_err(feed);
        assert!(wrong.contains(expected), "{feed}: {wrong}");
    }
}

#[test]
fn a_feed_belongs_to_one_channel() {
    let second =
        "[channels.other]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"google\"";
    let wrong = understood("", XML, second).expect_err("two channels");
    assert!(wrong.contains("delivers to the same feed"), "{wrong}");
}

#[test]
fn a_listener_that_others_reach_needs_to_know_who_may_fetch() {
    let token = "admin_listen = \"0.0.0.0:7701\"\n[tokens.ops]\nsecret = \"0123456789abcdef0123456789abcdef\"\nrole = \"admin\"";
    let wrong = understood(token, XML, "").expect_err("nobody is named");
    assert!(
        wrong.contains("the feed would be served to anyone"),
        "{wrong}"
    );
    let open = format!("{XML}\nserve = \"open\"");
    if let Err(wrong) = understood(token, &open, "") {
        assert!(!wrong.contains("the feed would be served"), "{wrong}");
    }
}
