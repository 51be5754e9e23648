//! What a configuration of a feed may say.

use super::super::inline;
use crate::plan::{Plan, redacted};
use crate::targets::Kind;
use crate::targets::feed::{Format, Options, Serve};

fn understood(feed: &str) -> Result<Plan, String> {
    inline(&format!("kind = \"feed\"\n{feed}"), &[])
}

fn options(plan: &Plan) -> Options {
    match &plan.targets["a"].kind {
        Kind::Feed(options) => (**options).clone(),
        other => panic!("{other:?}"),
    }
}

const XML: &str = "format = \"xml\"\nfields = { \"g:price\" = \"/price\", \"g:id\" = \"/sku\", title = \"/a~1b\" }";

#[test]
fn fields_stay_in_their_order_and_the_rest_has_defaults() {
    let plan = understood(XML).expect("a plan");
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
    let plan = understood(&feed).expect("a plan");
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
        // Any of these would make the whole file unreadable.
        (
            "format = \"xml\"\nfields = { id = \"/sku\" }\nnamespaces = { \"a b\" = \"urn:x\" }",
            "\"a b\" cannot be the prefix of a namespace",
        ),
        (
            "format = \"xml\"\nfields = { id = \"/sku\" }\nnamespaces = { xml = \"urn:x\" }",
            "\"xml\" cannot be the prefix of a namespace",
        ),
        (
            "format = \"xml\"\nfields = { id = \"/sku\" }\nnamespaces = { c = \"\" }",
            "the namespace of the prefix \"c\" is empty",
        ),
        (
            "format = \"csv\"\nfields = { id = \"/sku\" }\nencoding = \"windows-1252\"\njoin = \"→\"",
            "join has the character '→'",
        ),
        (
            "format = \"ndjson\"\nserve = \"closed\"",
            "is not allowed here",
        ),
        ("format = \"ndjson\"\ninterval = \"1ms\"", "out of bounds"),
        (
            "format = \"ndjson\"\nto = \"s3://a/b\"\nregion = \"eu\"",
            "the target has no credentials",
        ),
        (
            "format = \"ndjson\"\nto = \"s3://a/{key}\"\nregion = \"eu\"\ncredentials = \"none\"",
            "a feed is one object",
        ),
        (
            "format = \"ndjson\"\nto = \"gs://a/feeds/\"\ncredentials = \"none\"",
            "this is not the URL of an object",
        ),
        (
            "format = \"ndjson\"\nto = \"feeds/all.ndjson\"\ncredentials = \"none\"",
            "this is not the URL of a bucket",
        ),
        (
            "format = \"ndjson\"\nregion = \"eu\"",
            "there is no such key",
        ),
        (
            "format = \"ndjson\"\nshrink_max = \"300%\"",
            "is not a percentage",
        ),
    ];
    for (feed, expected) in cases {
        let wrong = understood(feed).expect_err(feed);
        assert!(wrong.contains(expected), "{feed}: {wrong}");
    }
}

#[test]
fn a_feed_belongs_to_one_channel() {
    let channel = |name| {
        format!(
            "[channels.{name}]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"google\"\n"
        )
    };
    let more = format!(
        "{XML}\n[targets.google]\nkind = \"feed\"\n{XML}\n{}{}",
        channel("b"),
        channel("c")
    );
    let wrong = understood(&more).expect_err("two channels");
    assert!(wrong.contains("delivers to the same feed"), "{wrong}");
}

#[test]
fn a_listener_that_others_reach_needs_to_know_who_may_fetch() {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"0.0.0.0:7701\"\n[tokens.ops]\nsecret = \"0123456789abcdef0123456789abcdef\"\nrole = \"admin\"";
    let wrong = understood(&format!("{XML}\n{server}")).expect_err("nobody is named");
    assert!(
        wrong.contains("the feed would be served to anyone"),
        "{wrong}"
    );
    if let Err(wrong) = understood(&format!("{XML}\nserve = \"open\"\n{server}")) {
        assert!(!wrong.contains("the feed would be served"), "{wrong}");
    }
}

#[test]
fn two_feeds_do_not_overwrite_each_other_in_a_bucket() {
    let bucket = "format = \"ndjson\"\ncredentials = \"none\"\n";
    let feeds = |first: &str, second: &str| {
        let first = format!("{bucket}to = {first:?}");
        let channel =
            "[channels.b]\nentity = \"product\"\nfacets = [\"content\"]\n[channels.b.target]";
        understood(&format!(
            "{first}\n{channel}\nkind = \"feed\"\n{bucket}to = {second:?}"
        ))
    };
    for second in ["gs://a/x", "gs://a/x.gz"] {
        let wrong = feeds("gs://a/x", second).expect_err(second);
        assert!(wrong.contains("is put to the same object"), "{wrong}");
    }
    let plan = feeds("gs://a/x", "gs://b/x").unwrap_or_else(|wrong| panic!("{wrong}"));
    let shown = redacted(&plan);
    assert_eq!(shown["targets"]["a"]["to"], "gs://a/x");
    assert_eq!(shown["targets"]["a"]["credentials"], "none");
}
