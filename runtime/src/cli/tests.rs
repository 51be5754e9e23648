//! Tests of the commands against a fake Weir on loopback: their output and their exit codes.

use std::sync::Arc;

use super::*;
use crate::plan::Role;
use crate::server::Limits;
use crate::server::fake::{Fake, start, token};

/// The output of a command, its error output, and its exit code.
struct Ended {
    out: String,
    complaint: String,
    code: u8,
}

/// Runs `weir` with these arguments against a server.
async fn weir(url: &str, arguments: &[&str]) -> Ended {
    let all = [&["weir"], arguments, &["--url", url]].concat();
    let Command::Remote(command) = Cli::try_parse_from(all)
        .unwrap_or_else(|error| panic!("{error}"))
        .command
    else {
        panic!("{arguments:?} does not talk to a running Weir")
    };
    let mut out = String::new();
    match remote(command, &mut out).await {
        Ok(fine) => Ended {
            out,
            complaint: String::new(),
            code: u8::from(!fine),
        },
        Err(failure) => Ended {
            out,
            complaint: failure.to_string(),
            code: failure.code(),
        },
    }
}

async fn running() -> (Arc<Fake>, crate::server::Server, String) {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, Limits::default()).await;
    let url = format!("http://{}", server.ingest_addr());
    (fake, server, url)
}

fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn the_definition_of_the_commands_holds_together() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
    let help = Cli::command().render_long_help().to_string();
    for command in [
        "run",
        "check",
        "demo",
        "send",
        "show",
        "channel",
        "entity",
        "refused",
        "quarantine",
        "source",
        "status",
        "init",
        "config",
        "plugin",
        "tap",
        "top",
    ] {
        assert!(
            help.lines()
                .any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command} in {help}"
        );
    }
}

#[test]
fn wrong_usage_ends_with_two_and_help_with_zero() {
    let never = |_: Local| -> ExitCode { panic!("nothing was asked of this process") };
    let code = |code: u8| format!("{:?}", ExitCode::from(code));
    for (arguments, expected) in [
        (&["weir", "--help"][..], 0),
        (&["weir", "--version"], 0),
        (&["weir"], 2),
        (&["weir", "chanel", "list"], 2),
        (&["weir", "send", "erp"], 2),
        (&["weir", "entity", "list", "product", "--limit", "0"], 2),
        (&["weir", "channel", "entities", "shop"], 2),
        (
            &["weir", "channel", "entities", "shop", "--state", "lost"],
            2,
        ),
        (&["weir", "refused", "redrive", "storefront.de"], 2),
        (
            &[
                "weir",
                "refused",
                "drop",
                "storefront.de",
                "--all",
                "--key",
                "a",
            ],
            2,
        ),
        (
            &["weir", "show", "product", "--url", "http://127.0.0.1:9"],
            2,
        ),
        (&["weir", "channel", "list", "--url", "ftp://127.0.0.1"], 2),
        (
            &[
                "weir",
                "send",
                "erp",
                "/nowhere/file.json",
                "--url",
                "http://127.0.0.1:9",
            ],
            3,
        ),
    ] {
        assert_eq!(
            format!("{:?}", run_with(arguments, never)),
            code(expected),
            "{arguments:?}"
        );
    }
}

#[test]
fn commands_of_this_process_are_handed_back_with_their_arguments() {
    let mut seen = None;
    run_with(["weir", "run", "-c", "a.toml", "-c", "b.toml"], |local| {
        seen = Some(local);
        ExitCode::SUCCESS
    });
    let Some(Local::Run(args)) = seen else {
        panic!("{seen:?}")
    };
    assert_eq!(
        args.config,
        [PathBuf::from("a.toml"), PathBuf::from("b.toml")]
    );
}

#[tokio::test]
async fn sending_says_what_became_of_each_event() {
    let (fake, _server, url) = running().await;
    let folder = tempfile::tempdir().unwrap();
    let lines = file(
        &folder,
        "prices.ndjson",
        "{\"key\":1}\n\n{\"facet\":\"foreign\"}\n{\"key\":3}\n",
    );
    let ended = weir(&url, &["send", "erp", &lines, "--lane", "bulk"]).await;
    let expected = format!(
        "{lines}: 2 accepted, 0 filtered, 1 quarantined, 0 repeated; changes: 2 committed, 0 unchanged, 0 stale; sequence 42\n  \
         event 1: foreign-facet: facet `content` belongs to `pim`\n"
    );
    assert_eq!(
        (ended.out, ended.complaint, ended.code),
        (expected, String::new(), 1)
    );
    assert_eq!(
        fake.done(),
        ["ingest erp 41 bytes, application/x-ndjson, lane bulk, signed false"]
    );

    let fine = file(&folder, "order.xml", "<IDOC/>");
    assert_eq!(weir(&url, &["send", "erp", &fine]).await.code, 0);
    assert_eq!(
        fake.done(),
        ["ingest erp 7 bytes, application/xml, lane none, signed false"]
    );
}

#[tokio::test]
async fn long_files_go_in_portions_and_problems_name_the_line_of_the_file() {
    let (fake, _server, url) = running().await;
    let folder = tempfile::tempdir().unwrap();
    let lines = file(
        &folder,
        "many.ndjson",
        &("{\"n\":1}\n".repeat(1500) + "{\"facet\":\"foreign\"}\n"),
    );
    let ended = weir(&url, &["send", "erp", &lines]).await;
    assert_eq!(fake.done().len(), 2);
    assert!(
        ended.out.contains("event 1500: foreign-facet"),
        "{}",
        ended.out
    );
}

#[tokio::test]
async fn what_is_not_taken_is_told_and_ends_with_one() {
    let (_fake, _server, url) = running().await;
    let folder = tempfile::tempdir().unwrap();
    let bad = file(&folder, "bad.json", "malformed");
    let ended = weir(&url, &["send", "erp", &bad]).await;
    assert_eq!(
        (ended.out.as_str(), ended.code),
        (
            format!("{bad}: rejected: line 1, column 1: not JSON (400)\n").as_str(),
            1
        )
    );
    let busy = file(&folder, "busy.json", "busy");
    assert!(
        weir(&url, &["send", "erp", &busy])
            .await
            .out
            .contains("the store is busy; try again in 2 s (503)")
    );
    let unknown = weir(&url, &["send", "nope", &bad, "--json"]).await;
    assert_eq!(unknown.code, 1);
    let printed: serde_json::Value = serde_json::from_str(&unknown.out).unwrap();
    assert_eq!(
        printed[0]["answer"]["type"],
        "urn:weir:problem:unknown-source"
    );
}

#[tokio::test]
async fn secrets_come_from_files_and_sign_what_is_sent() {
    let (fake, _server, url) = running().await;
    let folder = tempfile::tempdir().unwrap();
    let body = file(&folder, "a.json", "{}");
    let secret = format!(
        "file:{}",
        file(
            &folder,
            "secret",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"
        )
    );
    for flag in ["--secret", "--bearer"] {
        assert_eq!(
            weir(&url, &["send", "erp", &body, flag, &secret])
                .await
                .code,
            0
        );
        assert_eq!(
            fake.done(),
            ["ingest erp 2 bytes, application/json, lane none, signed true"],
            "{flag}"
        );
    }
    assert_eq!(
        weir(&url, &["send", "erp", &body, "--secret", "s3cret"])
            .await
            .code,
        2,
        "a secret is never an argument"
    );
    assert_eq!(
        weir(&url, &["send", "erp", &body, "--secret", "file:/nowhere"])
            .await
            .code,
        3
    );
}

#[tokio::test]
async fn an_entity_is_shown_with_its_facets_and_where_it_stands() {
    let (_fake, _server, url) = running().await;
    let ended = weir(&url, &["show", "product/a/b", "--channel", "storefront.de"]).await;
    assert_eq!((ended.code, ended.complaint.as_str()), (0, ""));
    for part in [
        "product/a/b\n",
        r#"{"amount":9.90}"#,
        "parked",
        "the shop answered 500 (attempts: 3)",
        "in-stock@aa passed",
        "Lamp",
    ] {
        assert!(ended.out.contains(part), "{part} in {}", ended.out);
    }
    let nul = weir(&url, &["show", "product/nul\0", "--json"]).await;
    let printed: serde_json::Value = serde_json::from_str(&nul.out).unwrap();
    assert_eq!(printed["key"], "nul\0");
    assert_eq!(printed["facets"][0]["value"]["amount"].to_string(), "9.9");
    assert!(
        nul.out.contains("9.90"),
        "numbers stay as they were written: {}",
        nul.out
    );
    let unknown = weir(&url, &["show", "product/nope"]).await;
    assert_eq!(
        (unknown.complaint.as_str(), unknown.code),
        ("there is no entity `product/nope` (404)", 1)
    );
}

#[tokio::test]
async fn every_command_reaches_its_route() {
    let (fake, _server, url) = running().await;
    for (arguments, printed, done) in [
        (&["channel", "list"][..], "storefront.de  flowing", None),
        (
            &["channel", "pause", "storefront.de"],
            "storefront.de: paused\n",
            Some("Pause storefront.de"),
        ),
        (
            &["channel", "resume", "storefront.de"],
            "storefront.de: resumed\n",
            Some("Resume storefront.de"),
        ),
        (
            &["channel", "resync", "storefront.de"],
            "sending everything",
            Some("Resync storefront.de"),
        ),
        (
            &["channel", "rerender", "storefront.de"],
            "what differs",
            Some("Rerender storefront.de"),
        ),
        (
            &["channel", "confirm", "storefront.de"],
            "released",
            Some("Confirm storefront.de"),
        ),
        (
            &["channel", "forget", "old"],
            "old: forgotten\n",
            Some("Forget old"),
        ),
        (
            &[
                "channel",
                "entities",
                "storefront.de",
                "--state",
                "withheld",
            ],
            "storefront.de: 5 entities are withheld\n\nENTITIES  REASON\n5         needs\n\nENTITY             SINCE       REASON\nproduct/4711       1970-01-01  needs\n",
            None,
        ),
        (
            &["channel", "entities", "storefront.de", "--state", "parked"],
            "storefront.de: no entity is parked\n",
            None,
        ),
        (
            &[
                "channel",
                "entities",
                "storefront.de",
                "--state",
                "withheld",
                "--limit",
                "2",
            ],
            "there are more; the next page: --after 'a/b'\n",
            None,
        ),
        (
            &["entity", "list", "product", "--prefix", "a"],
            "product/a/b\n",
            None,
        ),
        (
            &[
                "entity", "list", "product", "--after", "4711", "--limit", "2",
            ],
            "product/a/b\nproduct/lamp 7\nthere are more; the next page: --after 'lamp 7'\n",
            None,
        ),
        (&["refused", "list", "storefront.de"], "product/4711", None),
        (
            &["refused", "list", "storefront.de", "--limit", "1"],
            "there are more",
            None,
        ),
        (
            &["refused", "show", "storefront.de", "a/b"],
            "no such category",
            None,
        ),
        // As the list prints it: this was answered "not refused".
        (
            &["refused", "show", "storefront.de", "product/4711"],
            "product/4711",
            None,
        ),
        (
            &[
                "refused",
                "redrive",
                "storefront.de",
                "--key",
                "product/4711",
            ],
            "1 queued for a retry\n",
            Some(r#"Redrive refused of storefront.de, key Some("4711"), code None"#),
        ),
        (
            &["refused", "redrive", "storefront.de", "--key", "a/b"],
            "1 queued for a retry\n",
            Some(r#"Redrive refused of storefront.de, key Some("a/b"), code None"#),
        ),
        (
            &["refused", "drop", "storefront.de", "--all"],
            "2 dropped\n",
            Some("Drop refused of storefront.de, key None, code None"),
        ),
        (&["quarantine", "list", "erp"], "no-material", None),
        (
            &["quarantine", "redrive", "erp", "--plugin", "erp"],
            "2 redriven; 1 failed again and stays in quarantine with the new reason\n  7: foreign: another owner writes it\n",
            Some(r#"Redrive quarantine of erp, sequence None, plugin Some("erp")"#),
        ),
        (
            &["quarantine", "drop", "erp", "--sequence", "11"],
            "1 dropped\n",
            Some("Drop quarantine of erp, sequence Some(11), plugin None"),
        ),
        (&["source", "list"], "erp", None),
        (
            &["source", "reset-versions", "erp"],
            "erp: the versions of 3 facets are forgotten",
            Some("Reset versions of erp"),
        ),
    ] {
        let ended = weir(&url, arguments).await;
        assert_eq!(
            (ended.complaint.as_str(), ended.code),
            ("", 0),
            "{arguments:?}"
        );
        assert!(
            ended.out.contains(printed),
            "{printed} in {} of {arguments:?}",
            ended.out
        );
        let longest = ended.out.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{arguments:?}: {}", ended.out);
        assert_eq!(fake.done(), done.as_slice(), "{arguments:?}");
        let json = weir(&url, &[arguments, &["--json"]].concat()).await;
        serde_json::from_str::<serde_json::Value>(&json.out)
            .unwrap_or_else(|error| panic!("{error} in {}", json.out));
        fake.done();
    }
    assert_eq!(
        weir(&url, &["refused", "show", "storefront.de", "nope"])
            .await
            .code,
        1
    );
    assert_eq!(
        weir(&url, &["channel", "forget", "storefront.de"])
            .await
            .complaint,
        "channel `storefront.de` is in the configuration (409)"
    );
}

// What the fake has in quarantine is all that is wrong with it.
#[tokio::test]
async fn the_status_says_what_is_wrong_and_its_exit_code_whether_something_is() {
    let (fake, server, url) = running().await;
    let wrong = weir(&url, &["status"]).await;
    assert_eq!((wrong.complaint.as_str(), wrong.code), ("", 1));
    for part in [
        format!("Weir at {url}.\nIt takes events. 1 thing needs somebody:\n").as_str(),
        "\n- Source erp has 2 events in quarantine.\n    weir quarantine list erp\n",
        "\nstorefront.de  flowing",
        "\nerp     -      -           0.5         2",
    ] {
        assert!(wrong.out.contains(part), "{part} in {}", wrong.out);
    }
    assert!(!wrong.out.contains("old"), "retired: {}", wrong.out);
    let json: serde_json::Value =
        serde_json::from_str(&weir(&url, &["status", "--json"]).await.out).expect("JSON");
    assert_eq!(
        (&json["well"], &json["troubles"][0]["grave"]),
        (&false.into(), &"some".into())
    );

    *fake.obstacles.lock().unwrap() = vec!["the disk is full".into()];
    let closed = weir(&url, &["status"]).await;
    assert_eq!(closed.code, 1);
    assert!(
        closed
            .out
            .contains("It takes no events:\n\nx Weir takes no events: the disk is full.")
    );

    server.stop(std::time::Duration::from_secs(1)).await;
    let gone = weir(&url, &["status"]).await;
    assert_eq!(gone.code, 3);
    assert!(
        gone.complaint
            .starts_with("no Weir answers: could not reach"),
        "{}",
        gone.complaint
    );
}

#[tokio::test]
async fn a_reload_is_waited_for_and_prints_each_mistake() {
    let (fake, _server, url) = running().await;
    let fine = weir(&url, &["reload"]).await;
    assert_eq!((fine.out.as_str(), fine.code), ("nothing has changed\n", 0));
    *fake.complaints.lock().unwrap() = vec![
        crate::server::views::ComplaintView {
            file: "weir.toml".into(),
            line: 3,
            column: 9,
            what: "chanels: unknown key\u{1b}".into(),
            help: Some("did you mean \"channels\"?".into()),
        },
        crate::server::views::ComplaintView {
            file: "more.toml".into(),
            what: "it is a FIFO".into(),
            ..Default::default()
        },
    ];
    let refused = weir(&url, &["reload"]).await;
    assert_eq!(
        refused.out,
        "weir.toml:3:9: chanels: unknown key\\u001b; did you mean \"channels\"?\nmore.toml: it is a FIFO\n"
    );
    assert_eq!(
        (refused.complaint.as_str(), refused.code),
        (
            "the configuration has 2 mistakes; the previous one stays in use (422)",
            1
        )
    );
    let json = weir(&url, &["reload", "--json"]).await;
    let answer: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(
        (&answer["complaints"][0]["line"], json.code),
        (&3.into(), 1)
    );
}

#[tokio::test]
async fn a_token_is_needed_where_one_is_configured() {
    let (fake, _server, url) = running().await;
    *fake.tokens.lock().unwrap() = vec![token(Role::Read)];
    let without = weir(&url, &["channel", "list"]).await;
    assert_eq!(without.code, 1);
    assert!(
        without.complaint.contains("WEIR_TOKEN"),
        "{}",
        without.complaint
    );
    assert_eq!(
        weir(&url, &["channel", "list", "--token", "read"])
            .await
            .code,
        0
    );
    let weak = weir(
        &url,
        &["channel", "pause", "storefront.de", "--token", "read"],
    )
    .await;
    assert!(
        weak.complaint.contains("needs the role `operate`"),
        "{}",
        weak.complaint
    );
}

#[tokio::test]
async fn who_is_not_there_is_named_with_what_to_do() {
    let (_fake, server, url) = running().await;
    server.stop(std::time::Duration::from_secs(1)).await;
    let ended = weir(&url, &["source", "list"]).await;
    assert_eq!(ended.code, 3);
    assert!(
        ended
            .complaint
            .starts_with(&format!("could not reach {url}: ")),
        "{}",
        ended.complaint
    );
    assert!(
        ended.complaint.contains("refused") && ended.complaint.contains("WEIR_URL"),
        "{}",
        ended.complaint
    );
}
